//! Batches as the providers' references show them, in whole and in pieces.

use proptest::prelude::*;

use super::*;

const INPUT: &str = concat!(
    r#"{"custom_id":"a","method":"POST","url":"/v1/chat/completions","body":{"model":"gpt-4o","max_tokens":100,"messages":[{"role":"user","content":"hi"}]}}"#,
    "\n",
    r#"{"custom_id":"b","method":"POST","url":"/v1/embeddings","body":{"model":"text-embedding-3-small","input":"hi"}}"#,
    "\r\n\r\n",
    r#"{"custom_id":"c","method":"POST","url":"/v1/responses","body":{"model":"gpt-4o","max_output_tokens":50,"input":"hi"}}"#,
);

fn form(file: &str) -> String {
    format!(
        "--xyz\r\nContent-Disposition: form-data; name=\"purpose\"\r\n\r\nbatch\r\n--xyz\r\nContent-Disposition: form-data; \
         name=\"file\"; filename=\"b.jsonl\"\r\nContent-Type: application/jsonl\r\n\r\n{file}\r\n--xyz--\r\n"
    )
}

fn upload(form: &str, size: usize) -> Option<Expected> {
    let headers = Fields::from_iter([(Id::ContentType, "multipart/form-data; boundary=xyz")]);
    let mut upload = Upload::new(&headers, Prices::new(&[]).steps()).expect("a form");
    form.as_bytes().chunks(size).for_each(|piece| upload.feed(piece));
    upload.finish()
}

#[test]
fn an_input_file_tells_what_its_batch_may_use() {
    for size in [1, 13, 100_000] {
        let expected = upload(&form(INPUT), size).expect("readable");
        assert_eq!(expected.requests, 3);
        let of = |model: &str| expected.models[model][&0];
        assert_eq!(of("gpt-4o")[1], 150);
        assert!(of("gpt-4o")[0] > 1 && of("text-embedding-3-small")[0] > 0);
        assert_eq!(of("text-embedding-3-small")[1], 0);
    }
    for odd in
        ["", "%PDF-1.4\n\n", "{\"a\":1}", r#"{"url":"/v1/videos","body":{"model":"sora"}}"#, r#"{"url":"/v1/chat/completions","body":{}}"#]
    {
        assert_eq!(upload(&form(odd), 7), None, "{odd}");
    }
    assert_eq!(upload(&form(&format!("{INPUT}\nnonsense")), 50), None, "one line that cannot be read");
}

#[test]
fn a_large_file_leaves_no_memory() {
    let line = format!("{}\n", INPUT.lines().next().expect("a line"));
    let headers = Fields::from_iter([(Id::ContentType, "multipart/form-data; boundary=\"xyz\"")]);
    let mut upload = Upload::new(&headers, Prices::new(&[]).steps()).expect("a form");
    upload.feed(b"--xyz\r\nContent-Disposition: form-data; name=\"file\"\r\n\r\n");
    for _ in 0..10_000 {
        upload.feed(line.as_bytes());
        assert!(upload.held.len() < 1_000 && upload.lines.held.len() < 1_000);
    }
    upload.feed(b"\r\n--xyz--\r\n");
    assert_eq!(upload.finish().expect("readable").requests, 10_000);
}

#[test]
fn an_anthropic_batch_has_its_requests_in_its_body() {
    let body = br#"{"requests":[{"custom_id":"a","params":{"model":"claude-opus-5","max_tokens":100,"messages":[]}},
        {"custom_id":"b","params":{"model":"claude-haiku-4-5","max_tokens":10,"messages":[]}}]}"#;
    let expected = Expected::of_messages(body, Prices::new(&[]).steps()).expect("readable");
    assert_eq!((expected.requests, expected.models["claude-opus-5"][&0][1], expected.models["claude-haiku-4-5"][&0][1]), (2, 100, 10));
    assert_eq!(Expected::of_messages(br#"{"requests":[{"custom_id":"a","params":{"max_tokens":1}}]}"#, &Steps::default()), None);
    assert_eq!(Expected::of_messages(b"{}", &Steps::default()), None);
    assert_eq!(input_file(br#"{"input_file_id":"file-1","endpoint":"/v1/responses"}"#).as_deref(), Some("file-1"));
}

const OPENAI: &str = concat!(
    r#"{"id":"r1","custom_id":"a","response":{"status_code":200,"request_id":"q","body":{"id":"c","object":"chat.completion","model":"gpt-4o-2024-08-06","choices":[{"message":{"content":"x"},"finish_reason":"stop"}],"usage":{"prompt_tokens":24,"completion_tokens":15,"total_tokens":39,"prompt_tokens_details":{"cached_tokens":4}}}},"error":null}"#,
    "\n",
    r#"{"id":"r2","custom_id":"b","response":{"status_code":200,"body":{"object":"response","model":"gpt-4o-2024-08-06","status":"completed","output":[],"usage":{"input_tokens":10,"output_tokens":5,"total_tokens":15}}},"error":null}"#,
    "\n",
    r#"{"id":"r3","custom_id":"c","response":null,"error":{"code":"batch_expired","message":"This request could not be executed before the completion window expired."}}"#,
    "\n",
    r#"{"id":"r4","custom_id":"d","response":{"status_code":400,"body":{"error":{"message":"no"}}},"error":null}"#,
    "\n",
    r#"{"id":"r5","custom_id":"e","response":{"status_code":200,"body":{"object":"chat.completion","model":"gpt-4o","choices":[]}},"error":null}"#,
);

const ANTHROPIC: &str = concat!(
    r#"{"custom_id":"a","result":{"type":"succeeded","message":{"id":"m","type":"message","role":"assistant","model":"claude-opus-5","content":[{"type":"text","text":"x"}],"stop_reason":"end_turn","usage":{"input_tokens":10,"output_tokens":34,"cache_read_input_tokens":5,"service_tier":"batch"}}}}"#,
    "\n",
    r#"{"custom_id":"b","result":{"type":"errored","error":{"type":"error","error":{"type":"invalid_request_error"}}}}"#,
    "\n",
    r#"{"custom_id":"c","result":{"type":"canceled"}}"#,
    "\n",
    r#"{"custom_id":"d","result":{"type":"expired"}}"#,
    "\n",
);

fn used(api: Api, text: &str, size: usize) -> Used {
    let mut results = Results::new(api, Prices::new(&[]).steps());
    text.as_bytes().chunks(size).for_each(|piece| results.feed(piece));
    results.finish()
}

#[test]
fn results_are_summed_line_by_line() {
    for size in [1, 100, 100_000] {
        let openai = used(Api::OpenAi, OPENAI, size);
        let sum = &openai.groups[&Group { model: Some("gpt-4o-2024-08-06".to_owned()), ..Group::default() }].0;
        assert_eq!((sum.input, sum.cache_read, sum.output, openai.untold, openai.groups.len()), (30, 4, 20, 1, 1));
        let anthropic = used(Api::Anthropic, ANTHROPIC, size);
        let sum = &anthropic.groups[&Group { model: Some("claude-opus-5".to_owned()), ..Group::default() }].0;
        assert_eq!((sum.input, sum.cache_read, sum.output, anthropic.untold, anthropic.groups.len()), (10, 5, 34, 0, 1));
    }
    let large = format!("{}\n{OPENAI}", "x".repeat(LINE + 1));
    assert_eq!(used(Api::OpenAi, &large, 1 << 20).untold, 2, "a line that is too large");
}

#[test]
fn the_state_of_a_batch() {
    let of = |text: &str| state(text.as_bytes(), Prices::new(&[]).steps()).map(|(_, state)| state);
    let nothing = Some(State::Ended(Used::default()));
    for (what, text, expected) in [
        ("validating", r#"{"id":"b","object":"batch","status":"validating","output_file_id":null,"usage":null}"#, Some(State::GoesOn)),
        ("failed validation", r#"{"id":"b","status":"failed","output_file_id":null}"#, nothing.clone()),
        (
            "no usage",
            r#"{"id":"b","status":"completed","output_file_id":"file-2","request_counts":{"completed":2,"failed":0,"total":2}}"#,
            Some(State::In("file-2".into())),
        ),
        ("cancelled before anything was done", r#"{"id":"b","status":"cancelled","request_counts":{"completed":0}}"#, nothing.clone()),
        (
            "Anthropic goes on",
            r#"{"id":"m","type":"message_batch","processing_status":"in_progress","request_counts":{"succeeded":0}}"#,
            Some(State::GoesOn),
        ),
        ("Anthropic has ended", r#"{"id":"m","processing_status":"ended","request_counts":{"succeeded":3}}"#, Some(State::GoesOn)),
        (
            "Anthropic has ended with nothing",
            r#"{"id":"m","processing_status":"ended","request_counts":{"succeeded":0,"canceled":3}}"#,
            nothing,
        ),
        ("an error", r#"{"error":{}}"#, None),
    ] {
        assert_eq!(of(text), expected, "{what}");
    }
    let Some(State::Ended(used)) = of(
        r#"{"id":"b","status":"completed","model":"gpt-4o","output_file_id":"f","usage":{"input_tokens":100,"input_tokens_details":{"cached_tokens":40},"output_tokens":7,"total_tokens":107}}"#,
    ) else {
        panic!("it has ended")
    };
    let sum = used.groups[&Group { model: Some("gpt-4o".to_owned()), ..Group::default() }].0;
    assert_eq!((sum.input, sum.cache_read, sum.output), (60, 40, 7));
}

fn answer(model: &str, input: u64) -> String {
    let body = format!(
        r#"{{"object":"chat.completion","model":"{model}","choices":[],"usage":{{"prompt_tokens":{input},"completion_tokens":1000}}}}"#
    );
    format!(r#"{{"custom_id":"a","response":{{"status_code":200,"body":{body}}}}}"#)
}

/// Nano-dollars of these results.
fn cost(used: &Used) -> u64 {
    let prices = Prices::new(&[]);
    used.observed().filter_map(|observed| prices.charge(None, &observed)).sum()
}

#[test]
fn each_line_is_judged_by_its_own_length() {
    for (model, step, [input, output], [long_input, long_output]) in [
        ("gpt-5.4", 272_000, [2_500, 15_000], [5_000, 22_500]),
        ("claude-sonnet-4-5", 200_000, [3_000, 15_000], [6_000, 22_500]),
        ("claude-haiku-5-5", 100_000, [100, 500], [500, 2_500]),
    ] {
        // Nano-dollars for a token, times a thousand thousandths, at half the price.
        let short = |tokens: u64| (tokens * input + 1_000 * output) / 2;
        let long = |tokens: u64| (tokens * long_input + 1_000 * long_output) / 2;
        let lines = vec![answer(model, step); 5].join("\n");
        assert_eq!(cost(&used(Api::OpenAi, &lines, 1_000)), 5 * short(step), "{model}: no line is above {step}");
        let lines = format!("{lines}\n{}", answer(model, step + 2));
        assert_eq!(cost(&used(Api::OpenAi, &lines, 1_000)), 5 * short(step) + long(step + 2), "{model}: one line is");

        let request = |bytes: usize| {
            let text = "a b ".repeat(bytes);
            format!(
                r#"{{"url":"/v1/chat/completions","body":{{"model":"{model}","max_tokens":1000,"messages":[{{"role":"user","content":"{text}"}}]}}}}"#
            )
        };
        let expected = |requests: &[String]| upload(&form(&requests.join("\n")), 9_999).expect("readable");
        let prices = Prices::new(&[]);
        let (one, ten) = (expected(&[request(10_000)]), expected(&vec![request(10_000); 30]));
        assert!(ten.usage().total_input() > step);
        assert_eq!(ten.cost(&prices), one.cost(&prices).map(|cost| cost * 30), "{model}");
        let both = expected(&[request(10_000), request(400_000)]);
        let large = expected(&[request(400_000)]);
        let input = large.usage().total_input();
        assert_eq!(large.cost(&prices), Ok(long(input)), "{model}");
        assert_eq!(both.cost(&prices), Ok(one.cost(&prices).expect("priced") + long(input)), "{model}");
        let stored: Expected = serde_json::from_slice(&serde_json::to_vec(&both).expect("JSON")).expect("the same");
        assert_eq!(stored, both);
    }
}

#[test]
fn lines_of_responses_have_their_tools() {
    let body = r#"{"object":"response","model":"gpt-4o","status":"completed","output":[{"type":"web_search_call","action":{"type":"search"}},
        {"type":"file_search_call"},{"type":"code_interpreter_call","container_id":"c1"}],"usage":{"input_tokens":1000,"output_tokens":100}}"#;
    let line = format!(r#"{{"response":{{"status_code":200,"body":{}}}}}"#, body.replace('\n', " "));
    let used = used(Api::OpenAi, &format!("{line}\n{line}"), 50);
    // Half of 2.5 and 10 dollars a million; 0.01 for a search of the web, 0.0025 of files, 0.03 for a container.
    assert_eq!(cost(&used), 2 * ((1_000 * 2_500 + 100 * 10_000) / 2 + 10_000_000 + 2_500_000 + 30_000_000));
}

#[test]
fn the_lines_decide_where_the_sum_cannot() {
    let of = |endpoint: &str, input: u64, file: &str| {
        let batch = format!(
            r#"{{"id":"b","status":"completed","endpoint":"{endpoint}","model":"gpt-5.4","output_file_id":{file},
                "request_counts":{{"completed":10}},"usage":{{"input_tokens":{input},"output_tokens":7}}}}"#
        );
        state(batch.as_bytes(), Prices::new(&[]).steps()).expect("a batch").1
    };
    let above = |state: State| match state {
        State::Ended(used) => used.groups.keys().map(|group| group.above).next(),
        _ => None,
    };
    let lines = State::In("f".into());
    assert_eq!(of("/v1/responses", 10, "\"f\""), lines, "tools may have cost");
    assert_eq!(of("/v1/chat/completions", 300_000, "\"f\""), lines, "a line may have been long");
    assert_eq!(above(of("/v1/chat/completions", 10, "\"f\"")), Some(0));
    assert_eq!(above(of("/v1/chat/completions", 300_000, "null")), Some(0), "30,000 each");
    assert_eq!(above(of("/v1/chat/completions", 3_000_000, "null")), Some(272_000), "300,000 each");
}

proptest! {
    #[test]
    fn a_form_is_read_in_the_same_way_however_it_is_cut(size in 1usize..200, tail in "[ -~\r\n]{0,40}") {
        let form = form(&format!("{INPUT}{tail}"));
        prop_assert_eq!(upload(&form, size), upload(&form, usize::MAX));
    }

    #[test]
    fn reading_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = (state(&bytes, &Steps::default()), input_file(&bytes), Expected::of_messages(&bytes, &Steps::default()), used(Api::OpenAi, &String::from_utf8_lossy(&bytes), 9));
        upload(&String::from_utf8_lossy(&bytes), 9);
    }
}
