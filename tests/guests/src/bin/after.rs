//! Answers, then works on: waits and says so, or on `/spin` counts without end.

guests::guest!(|request, out| {
    let spin = guests::path(&request).starts_with("/spin");
    guests::answer(out, 200, &[], b"answered\n");
    guests::sleep_ms(20);
    println!("said after the answer");
    let mut count = 0_u64;
    while spin {
        count = std::hint::black_box(count.wrapping_add(1));
    }
});
