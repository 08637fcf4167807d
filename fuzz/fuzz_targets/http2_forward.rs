#![no_main]
libfuzzer_sys::fuzz_target!(|data: &[u8]| tektin_fuzz::http2_forward::run(data));
