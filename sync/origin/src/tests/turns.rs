//! The turns of schedules over the wire.

use eyot_link::events::{Turn, TurnRequest, TurnStep};

use super::house::{House, block_on, name};

#[test]
fn nodes_alone_share_the_turns_of_an_apps_schedules_and_a_restart_forgets_none() {
    let mut house = House::new();
    let origin = house.start_granted();
    let now = jiff::Timestamp::now();
    let request =
        |step| TurnRequest { schedule: "0123456789abcdef".to_owned(), planned: now, process: "one".to_owned(), step };
    let claim = request(TurnStep::Claim);
    let ask = |client: eyot_link::client::Client, app: &str, request: &TurnRequest| {
        block_on(async { client.turn(&name(app), request).await })
    };
    for (client, app, expect) in [
        (house.publisher(&origin, "shop"), "shop", "not_yours"),
        (house.operator_client(&origin), "shop", "not_yours"),
        (house.client(&origin, None, None), "shop", "unsigned"),
        (house.node(&origin, "fra-1"), "nobody", "not_found"),
    ] {
        assert_eq!(ask(client, app, &claim).expect_err(expect).code(), Some(expect));
    }
    assert!(matches!(ask(house.node(&origin, "fra-1"), "shop", &claim), Ok(Turn::Yours(_))));
    origin.stop();
    let origin = house.start();
    assert!(matches!(ask(house.node(&origin, "fra-2"), "shop", &claim), Ok(Turn::Later(_))));
    assert!(matches!(ask(house.node(&origin, "fra-2"), "blog", &claim), Ok(Turn::Yours(_))), "another app's");
    assert!(matches!(ask(house.node(&origin, "fra-1"), "shop", &request(TurnStep::Done)), Ok(Turn::Yours(0))));
    assert!(matches!(ask(house.node(&origin, "fra-2"), "shop", &claim), Ok(Turn::Past)));
}
