//! `make test-chaos`: two services under traffic, one fault after the other, and what it cost written to
//! `docs/CHAOS.md`. Not part of `make test`, which has the same faults one by one and shorter in `sentinel.rs`.

mod balancer;
mod deployment;
mod event_log;
mod fault;
mod report;
mod traffic;

use std::time::Instant;

use rstest::rstest;

use self::{
    deployment::{Deployment, Durability},
    fault::Fault,
    report::Row,
    traffic::Traffic,
};

/// Requests before the fault, and after it is over.
const BEFORE: usize = 300;
const AFTER: usize = 1000;

/// One fault under traffic. Returns what it cost.
async fn suffer(fault: Fault, durability: Durability) -> Row {
    let mut deployment = Deployment::start(fault, durability).await;
    let traffic = Traffic::start(deployment.balancer.clone(), deployment.log.clone()).await;
    deployment.log.wait_for_requests(BEFORE).await;
    let began = Instant::now();
    let sentinels_took = fault.strike(&mut deployment).await;
    deployment.log.wait_for_requests(AFTER).await;
    traffic.stop().await;
    fault.undo(&mut deployment).await;
    Row::of(fault, durability, &deployment, began, sentinels_took).await
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes and measures; `make test-chaos` runs it"]
async fn every_fault_under_traffic() {
    let wanted = std::env::var_os("CHAOS").unwrap_or_default();
    let wanted = wanted.to_str().unwrap();
    let mut rows = Vec::new();
    for (fault, durability) in fault::plan() {
        if wanted.is_empty() || format!("{fault:?}").contains(wanted) {
            let row = suffer(fault, durability).await;
            report::say(&row);
            rows.push(row);
        }
    }
    if wanted.is_empty() {
        report::write(&rows);
    }
    let broken: Vec<String> = rows.iter().flat_map(Row::broken_promises).collect();
    assert!(broken.is_empty(), "{broken:#?}");
}
