//! Never stops counting, before it is asked anything: while it is instantiated, if `SPIN` is set.

#[used]
#[unsafe(link_section = ".init_array")]
static START: extern "C" fn() = {
    extern "C" fn start() {
        let mut count = 0_u64;
        while std::env::var_os("SPIN").is_some() {
            count = std::hint::black_box(count.wrapping_add(1));
        }
    }
    start
};

guests::guest!(|_request, out| guests::answer(out, 200, &[], b"started\n"));
