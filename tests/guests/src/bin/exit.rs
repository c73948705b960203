//! Exits the process, with the code its query says, before it answers; on `/answered` after it has answered.

guests::guest!(|request, out| {
    let path = guests::path(&request);
    if path.starts_with("/answered") {
        guests::answer(out, 200, &[], b"goodbye\n");
    }
    let code = path.split_once('?').and_then(|(_, code)| code.parse().ok()).unwrap_or(0);
    std::process::exit(code);
});
