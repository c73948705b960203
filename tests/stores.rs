//! The stores of apps: every case over engines that are real servers, and what becomes of it when those go away.

mod away;
mod cases;
mod killed;
mod nodes;
mod server;

use cases::conforms;
use server::{Fleet, Server};

#[tokio::test(flavor = "multi_thread")]
async fn every_case_holds_on_a_server_of_redis() {
    let server = Server::redis();
    conforms(&server.ground()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_case_holds_on_a_server_of_nats() {
    let server = Server::nats();
    conforms(&server.ground()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_case_holds_on_three_servers_of_nats_for_nodes_that_ask_different_ones() {
    let fleet = Fleet::new().await;
    conforms(&fleet.ground()).await;
}
