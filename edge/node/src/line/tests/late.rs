//! What functions do when their answer is out or their client has left: it is on the record, once, and nobody waits for it.

use tokio::net::TcpListener;

use super::targets::route;
use super::*;

impl House {
    /// The value of a metric's line, 0 when there is none.
    fn metric(&self, line: &str) -> f64 {
        let text = self.node.telemetry.render();
        let found = text.lines().find_map(|row| row.strip_prefix(line)?.trim().parse().ok());
        found.unwrap_or(0.0)
    }

    /// How many requests and calls of the function are on record.
    fn on_record(&self, name: &str) -> (f64, f64) {
        let requests = format!(
            r#"eyot_requests_total{{app="shop",route="/*",target="function:{name}",protocol="h3",status="200"}}"#
        );
        let calls = format!(r#"eyot_function_calls_total{{app="shop",function="{name}",release="1"}}"#);
        (self.metric(&requests), self.metric(&calls))
    }

    /// A house whose only function is this guest.
    fn of(name: &str, parts: &Value) -> Self {
        let house = house();
        let mut function = house.function(name, &["*"]);
        function.as_object_mut().expect("an object").extend(parts.as_object().expect("an object").clone());
        let parts = json!({"routes": [route("/*", name)], "functions": {name: function}});
        house.granted(1, &parts, &json!([{"net": "127.0.0.0/8"}]));
        house
    }
}

#[tokio::test]
async fn what_a_function_spends_after_its_answer_is_in_the_record_with_the_fault_it_ends_in() {
    let house = House::of("after", &json!({"limits": {"cpu_us": 20_000}}));
    assert_eq!(text(house.get("/spin").await).await, "answered\n");
    house.node.runtime.idle().await;
    assert_eq!(house.on_record("after"), (1.0, 1.0));
    let cpu = house.metric(r#"eyot_function_cpu_seconds_sum{app="shop",function="after"}"#);
    assert!(cpu >= 0.02, "{cpu} s");
    house.counts(r#"eyot_faults_total{app="shop",route="/*",code="cpu_budget_exceeded",side="function"} 1"#);
}

#[tokio::test]
async fn no_client_waits_for_what_a_function_does_after_its_answer_and_a_node_that_ends_loses_no_record() {
    let asked = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let target = asked.local_addr().expect("bound").to_string();
    let house = House::of("after", &json!({"env": {"TARGET": target}}));
    assert_eq!(text(house.get("/ask").await).await, "answered\n");
    let (connection, _) = asked.accept().await.expect("it asks after its answer");
    assert_eq!(house.on_record("after"), (0.0, 0.0), "it waits for an answer");
    drop(connection);
    house.node.runtime.idle().await;
    assert_eq!(house.on_record("after"), (1.0, 1.0));

    assert_eq!(text(house.get("/ask").await).await, "answered\n");
    let (_connection, _) = asked.accept().await.expect("it asks after its answer");
    let telemetry = Arc::clone(&house.node.telemetry);
    drop(house);
    let text = telemetry.render();
    assert!(text.contains(r#"eyot_function_subrequests_total{app="shop",function="after"} 2"#), "{text}");
}

#[tokio::test]
async fn a_function_whose_client_leaves_is_recorded_once_and_without_a_fault() {
    let house = House::of("endless-body", &json!({}));
    let mut response = house.get("/").await;
    response.body_mut().frame().await.expect("a frame").expect("bytes");
    drop(response);
    house.node.runtime.idle().await;
    assert_eq!(house.on_record("endless-body"), (1.0, 1.0));
    assert!(!house.node.telemetry.render().contains("eyot_faults_total{app=\"shop\""));
}
