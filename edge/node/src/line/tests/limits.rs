//! Limits that differ by function, by node and by share, and who of them is the lower.

use super::targets::route;
use super::*;

const PARENT: &str = "https://origin.test";

async fn problem(response: Response<Body>) -> Value {
    serde_json::from_str(&text(response).await).expect("JSON")
}

#[tokio::test]
async fn what_a_release_asks_beyond_its_node_is_lowered_without_a_word() {
    let asks = json!({"cpu_us": 60_000_000, "wall_ms": 600_000, "memory_bytes": 4_u64 << 30});
    type Lower = fn(&mut crate::config::Limits);
    let table: [(Lower, &str, &str, &str, u64); 3] = [
        (|node| node.cpu_us = 20_000, "spin", "cpu_budget_exceeded", "cpu_us", 20_000),
        (|node| node.wall_ms = 50, "sleep", "wall_time_exceeded", "wall_ms", 50),
        (|node| node.memory_bytes = 16 << 20, "allocate", "memory_exceeded", "memory_bytes", 16 << 20),
    ];
    for (lower, guest, code, limit, allowed) in table {
        let house = house_told(PARENT, |config| lower(&mut config.limits));
        let mut function = house.function(guest, &[]);
        function["limits"] = asks.clone();
        house.release(1, &json!({"routes": [route("/*", guest)], "functions": {guest: function}}));
        let problem = problem(house.get("/").await).await;
        let met = (&problem["code"], &problem["limit"], &problem["allowed"]);
        assert_eq!(met, (&json!(code), &json!(limit), &json!(allowed)), "{problem}");
    }
}

#[tokio::test]
async fn an_app_has_no_more_memory_on_a_node_than_its_part_of_what_the_node_gives_functions() {
    for (bytes, code) in [(64 << 20, "allowance_spent"), (1 << 30, "memory_exceeded")] {
        let house = house_told(PARENT, |config| config.functions.memory_bytes_max = Some(bytes));
        let mut function = house.function("allocate", &[]);
        function["limits"] = json!({"cpu_us": 500_000, "memory_bytes": 48 << 20});
        house.release(1, &json!({"routes": [route("/*", "allocate")], "functions": {"allocate": function}}));
        let problem = problem(house.get("/").await).await;
        assert_eq!(problem["code"], code, "{problem}");
    }
}

#[tokio::test]
async fn a_function_may_take_smaller_heads_than_others() {
    let house = house();
    let mut small = house.function("hello", &[]);
    small["limits"] = json!({"header_bytes": 1000});
    let functions = json!({"small": small, "usual": house.function("hello", &[])});
    house.release(1, &json!({"routes": [route("/small", "small"), route("/usual", "usual")], "functions": functions}));
    for (path, bytes, status) in [("/small", 500, 200), ("/small", 1001, 431), ("/usual", 1001, 200)] {
        let request = Request::get(format!("https://shop.test{path}")).header("x", "y".repeat(bytes));
        let response = house.ask(request, body::empty()).await;
        assert_eq!(response.status(), status, "{path} with {bytes} bytes");
        if status == 431 {
            let problem = problem(response).await;
            assert_eq!((&problem["code"], &problem["allowed"]), (&json!("headers_too_large"), &json!(1000)));
        }
    }
}
