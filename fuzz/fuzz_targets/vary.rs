//! Vary: a request always matches its own variant; neither the order of names nor of lines matters; names are sorted and few.
#![no_main]

mod fields;

use http::{HeaderValue, header::VARY};
use libfuzzer_sys::fuzz_target;
use outrigger::{
    http1::{Fields, Value},
    policy::cache::vary::{MAX_FIELDS, Variance},
};

fuzz_target!(|input: &[u8]| {
    // Lines of the response's Vary, an empty line, the request's fields.
    let at = input.windows(2).position(|window| window == b"\n\n").unwrap_or(input.len());
    let (vary, request) = (&input[..at], fields::fields(input.get(at + 2..).unwrap_or_default()));
    let mut response = Fields::new();
    for line in vary.split(|byte| *byte == b'\n').take(8) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            response.append(VARY, value);
        }
    }
    let variance = Variance::of(&response, &request);
    assert_eq!(Variance::of(&fields::joined(&response), &request), variance, "lines joined mean the same");
    let mut turned = Fields::new();
    let lines: Vec<Value<'_>> = response.all(VARY).collect();
    for value in lines.into_iter().rev() {
        let mut names: Vec<&[u8]> = value.as_bytes().split(|byte| *byte == b',').collect();
        names.reverse();
        turned.append(VARY, HeaderValue::from_bytes(&names.join(&b','.to_owned())).expect("a value"));
    }
    assert_eq!(Variance::of(&turned, &request), variance, "the order of names means nothing");
    let Some(variance) = variance else { return };
    assert!(variance.fields.len() <= MAX_FIELDS);
    assert!(variance.fields.windows(2).all(|pair| pair[0].0.as_str() < pair[1].0.as_str()), "sorted, each once");
    assert!(variance.matches(&request, &Fields::new()), "a request matches its own variant");
    assert!(variance.matches(&fields::joined(&request), &Fields::new()), "with its lines joined too");
    for (name, value) in &variance.fields {
        assert_eq!(value.is_some(), request.has(name));
    }
});
