#![no_main]

use flatmin_hostile::Reader;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    Reader::Gram.check(bytes);
});
