//! Asks much of one host call, or of many: `/handles?N` keeps so many resources, `/random?N` wants so many bytes,
//! `/give?N` gives so many. Then answers.

use wasip2::http::types::{Fields, OutgoingRequest};

guests::guest!(|request, out| {
    let path = guests::path(&request);
    let (what, count) = path.split_once('?').expect("a count");
    let count: usize = count.parse().expect("a count");
    match what {
        "/handles" => (0..count).for_each(|_| std::mem::forget(Fields::new())),
        "/random" => assert_eq!(wasip2::random::random::get_random_bytes(count as u64).len(), count),
        "/give" => {
            // It is no path, so the host refuses what it was able to take.
            let refused = OutgoingRequest::new(Fields::new()).set_path_with_query(Some(&" ".repeat(count)));
            assert!(refused.is_err());
        }
        _ => panic!("{what} is nothing it does"),
    }
    guests::answer(out, 200, &[], b"let\n");
});
