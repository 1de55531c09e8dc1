//! Callers who go on while servers come and go.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::json;
use tokio::task::JoinSet;

use super::{Answer, As, TestApp, id_of};

/// What callers met while something happened.
#[derive(Debug, Default)]
pub(crate) struct Met {
    pub(crate) created: Vec<String>,
    pub(crate) refused: Vec<String>,
    pub(crate) slowest: Duration,
}

/// Callers who create jobs and read them, until told to stop. Each repeats nothing.
pub(crate) struct Traffic {
    stop: Arc<AtomicBool>,
    callers: JoinSet<Met>,
}

impl Traffic {
    pub(crate) fn begin(app: &TestApp) -> Self {
        const CALLERS: usize = 4;
        let stop = Arc::new(AtomicBool::new(false));
        let mut callers = JoinSet::new();
        for caller in 0..CALLERS {
            let (stop, http, base) = (stop.clone(), app.http.clone(), app.base.clone());
            callers.spawn(async move {
                let mut met = Met::default();
                let url = format!("{base}/api/v1/jobs");
                let new = json!({"files": [{"filename": "a.png"}]});
                for n in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let create = http.post(&url).bearer_auth(As::Alice.key().unwrap()).json(&new);
                    let key = format!("{caller}-{n}");
                    let answer = Answer::of(create.header("idempotency-key", key)).await;
                    met.note(&answer);
                    if answer.status != 201 {
                        continue;
                    }
                    let id = id_of(&answer.json()).to_owned();
                    let read =
                        http.get(format!("{url}/{id}")).bearer_auth(As::Alice.key().unwrap());
                    met.created.push(id);
                    met.note(&Answer::of(read).await);
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
                met
            });
        }
        Self { stop, callers }
    }

    pub(crate) async fn end(mut self) -> Met {
        self.stop.store(true, Ordering::Relaxed);
        let mut all = Met::default();
        while let Some(met) = self.callers.join_next().await {
            let met = met.unwrap();
            all.created.extend(met.created);
            all.refused.extend(met.refused);
            all.slowest = all.slowest.max(met.slowest);
        }
        all
    }
}

impl Met {
    fn note(&mut self, answer: &Answer) {
        self.slowest = self.slowest.max(answer.took);
        if answer.status >= 400 {
            self.refused.push(format!("{} {}", answer.status, answer.text));
        }
    }
}
