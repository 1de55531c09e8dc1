//! `make test-chaos`: two services under traffic and one fault after another. Writes the results to
//! `docs/CHAOS.md`. Not part of `make test`; `sentinel.rs` tests the same faults with less traffic.

mod balancer;
mod deployment;
mod event_log;
mod fault;
mod report;
mod traffic;

use std::time::Instant;

use rstest::rstest;

use self::{
    deployment::{DeploymentEnvironment, Durability},
    fault::Fault,
    report::Row,
    traffic::Traffic,
};

/// The number of requests before and after the fault.
const BEFORE: usize = 300;
const AFTER: usize = 1000;

/// Runs one fault under traffic and returns its results.
async fn run_fault(fault: Fault, durability: Durability) -> Row {
    let mut deployment = DeploymentEnvironment::start(fault, durability).await;
    let traffic = Traffic::start(deployment.balancer.clone(), deployment.log.clone()).await;
    deployment.log.wait_for_requests(BEFORE).await;
    let began = Instant::now();
    let sentinels_took = fault.inject(&mut deployment).await;
    deployment.log.wait_for_requests(AFTER).await;
    traffic.stop().await;
    fault.undo(&mut deployment).await;
    Row::measure(fault, durability, &deployment, began, sentinels_took).await
}

#[rstest]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes and measures; `make test-chaos` runs it"]
async fn every_fault_under_traffic() {
    let filter = std::env::var_os("CHAOS").unwrap_or_default();
    let filter = filter.to_str().unwrap();
    let mut rows = Vec::new();
    for (fault, durability) in fault::plan() {
        if filter.is_empty() || format!("{fault:?}").contains(filter) {
            let row = run_fault(fault, durability).await;
            report::print(&row);
            rows.push(row);
        }
    }
    if filter.is_empty() {
        report::write(&rows);
    }
    let violations: Vec<String> = rows.iter().flat_map(Row::violations).collect();
    assert!(violations.is_empty(), "{violations:#?}");
}
