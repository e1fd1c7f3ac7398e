//! Personal data: whatever the body, what is masked is JSON still and comes back as it was; whatever the stream, pieces change nothing.
#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use outrigger::{
    config::{Mode, PersonalKind, Privacy, PrivacyAction},
    policy::privacy::{StreamRestorer, Vault, mask, whole},
};

fn policy() -> Privacy {
    Privacy {
        mode: Mode::Enforce,
        action: PrivacyAction::Placeholder,
        find: PersonalKind::ALL.to_vec(),
        refuse: Vec::new(),
        names: Vec::new(),
        patterns: Vec::new(),
        allow_values: Vec::new(),
        allow_fields: Vec::new(),
        passes_unreadable: false,
    }
}

fn restored(vault: &Vault, wire: &Bytes, size: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let mut restorer = StreamRestorer::default();
    for at in (0..wire.len()).step_by(size) {
        restorer.feed(vault, &wire.slice(at..(at + size).min(wire.len())), &mut |bytes| out.extend_from_slice(&bytes));
    }
    restorer.finish(vault, &mut |bytes| out.extend_from_slice(&bytes));
    out
}

fuzz_target!(|input: &[u8]| {
    // A body.
    if let Ok(masked) = mask(&policy(), &[], input, None)
        && let Some(sent) = &masked.body
    {
        is_json(sent);
        let mut restored = 0;
        if let Some(back) = whole(&masked.vault, sent.as_bytes(), &mut restored) {
            is_json(&back);
        }
    }
    // A stream.
    let call = br#"{"messages":[{"content":"a@b.example, 4111 1111 1111 1111"}]}"#;
    let vault = mask(&policy(), &[], call, None).expect("JSON").vault;
    let wire = Bytes::copy_from_slice(input);
    let whole = restored(&vault, &wire, input.len().max(1));
    for size in [1, 2, 7] {
        assert_eq!(restored(&vault, &wire, size), whole);
    }
    let none = mask(&policy(), &[], b"{}", None).expect("JSON").vault;
    assert_eq!(restored(&none, &wire, 3), input);
});

fn is_json(text: &str) {
    assert!(mask(&policy(), &[], text.as_bytes(), None).is_ok(), "no JSON: {text}");
}
