//! Asks for the secret `KEY` and does with it what its path says: `/value` answers it, `/say` writes it to both of its
//! streams and the log, `/trap` ends with it in its last words, `/fail` answers it as an error. `/none` asks for one that
//! is not bound.

wit_bindgen::generate!({
    path: "../../functions/wit",
    inline: "
        package guests:secret;
        world secret {
            include wasi:logging/imports@0.1.0-draft;
            import eyot:edge/secrets@0.1.0;
        }
    ",
    world: "guests:secret/secret",
    generate_all,
});

use eyot::edge::secrets;
use wasi::logging::logging;

guests::guest!(|request: wasip2::http::types::IncomingRequest, out| {
    let path = request.path_with_query().unwrap_or_default();
    if path == "/none" {
        let none = secrets::get("OTHER").map(|_| ());
        return guests::answer(out, 200, &[], format!("{none:?}").as_bytes());
    }
    let value = secrets::get("KEY").expect("it is bound");
    let text = String::from_utf8_lossy(&value).into_owned();
    match path.as_str() {
        "/value" => guests::answer(out, 200, &[], &value),
        "/say" => {
            println!("the secret is {text}");
            eprintln!("the secret is {text}, really");
            logging::log(logging::Level::Info, "secret", &format!("it is {text}"));
            guests::answer(out, 200, &[], b"said");
        }
        "/trap" => panic!("the secret is {text}"),
        _ => guests::answer(out, 404, &[], b""),
    }
});
