//! Fills 64 MiB again and again with `memory.fill`, which nothing can interrupt.

guests::guest!(|_request, _out| {
    let mut room = vec![0_u8; 64 << 20];
    let mut value = 0_u8;
    loop {
        value = value.wrapping_add(1);
        std::hint::black_box(&mut room).fill(value);
    }
});
