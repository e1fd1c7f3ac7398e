//! The members of an answer, or of an event of a stream, that the meter reads, for all APIs.
//!
//! Every value is kept as raw text and read when its API needs it: the same name has different shapes in different APIs
//! (`output`, `message`, `delta`), and one odd value must not hide the rest.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Finish, Wire, figures::Figures};
use crate::provider::json::{self, Text};

/// Raw members of an answer.
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Answer<'a> {
    #[serde(borrow, alias = "modelVersion")]
    model: Option<&'a RawValue>,
    #[serde(borrow, alias = "usageMetadata")]
    usage: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    choices: Option<&'a RawValue>,
    #[serde(borrow)]
    status: Option<&'a RawValue>,
    #[serde(borrow)]
    incomplete_details: Option<&'a RawValue>,
    #[serde(borrow)]
    output: Option<&'a RawValue>,
    #[serde(borrow, alias = "stopReason")]
    stop_reason: Option<&'a RawValue>,
    #[serde(borrow)]
    candidates: Option<&'a RawValue>,
    #[serde(borrow, rename = "promptFeedback")]
    prompt_feedback: Option<&'a RawValue>,
    #[serde(borrow)]
    object: Option<&'a RawValue>,
    #[serde(borrow, rename = "type")]
    kind: Option<&'a RawValue>,
    /// Groq's place for usage if the client did not ask for it.
    #[serde(borrow)]
    x_groq: Option<&'a RawValue>,
    /// Anthropic's `message_start`.
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    /// Anthropic's `message_delta`.
    #[serde(borrow)]
    delta: Option<&'a RawValue>,
    /// The Responses API's events.
    #[serde(borrow)]
    response: Option<&'a RawValue>,
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    /// Whether the response is made in the background.
    #[serde(borrow)]
    background: Option<&'a RawValue>,
    /// InvokeModel's own figures at the end of a stream, beside the model's.
    #[serde(borrow, rename = "amazon-bedrock-invocationMetrics")]
    metrics: Option<&'a RawValue>,
    #[serde(borrow, alias = "serviceTier")]
    service_tier: Option<&'a RawValue>,
    #[serde(borrow)]
    tool_usage: Option<&'a RawValue>,
    #[serde(borrow)]
    tools: Option<&'a RawValue>,
    /// The length of the sound that a transcript or a translation is about, in seconds.
    #[serde(borrow)]
    duration: Option<&'a RawValue>,
}

impl<'a> Answer<'a> {
    pub fn read(json: &'a [u8]) -> Option<Self> {
        json::lenient(json)
    }

    /// The answer inside an event: `message` or `response`.
    pub fn inner(&self) -> Option<Self> {
        object(self.message.or(self.response)?)
    }

    pub fn model(&self) -> Option<String> {
        json::lenient(self.model?.get().as_bytes())
    }

    /// The usage, from the first place that has it: Bedrock's own figures, the documented member, `x_groq`, a choice (Moonshot), the
    /// message.
    pub fn figures(&self, wire: Wire) -> Option<Figures> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Choice<'a> {
            #[serde(borrow)]
            usage: Option<&'a RawValue>,
        }
        let read = |raw: &RawValue| Figures::read(wire, raw.get().as_bytes());
        let within = |raw: Option<&'a RawValue>| object::<Self>(raw?)?.usage.and_then(read);
        let of_choice = || {
            let choices: Vec<Choice<'_>> = json::lenient(self.choices?.get().as_bytes())?;
            choices.iter().rev().find_map(|choice| read(choice.usage?))
        };
        (self.metrics.and_then(read))
            .or_else(|| self.usage.and_then(read))
            .or_else(|| within(self.x_groq))
            .or_else(of_choice)
            .or_else(|| within(self.message))
    }

    /// The usage of a whole answer. Some models of Bedrock put their counts into the answer's own members.
    pub fn figures_of(&self, wire: Wire, json: &[u8]) -> Option<Figures> {
        self.figures(wire).or_else(|| (wire == Wire::Bedrock).then(|| Figures::read(wire, json)).flatten())
    }

    /// The usage object in its documented place.
    pub fn usage_object(&self) -> Option<&'a RawValue> {
        self.usage
    }

    /// The word for the class of service; Bedrock puts it into an object.
    pub fn service_tier(&self) -> Text {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Typed {
            #[serde(rename = "type")]
            kind: Text,
        }
        let Some(raw) = self.service_tier else { return Text::default() };
        object::<Typed>(raw).map(|typed| typed.kind).or_else(|| json::lenient(raw.get().as_bytes())).unwrap_or_default()
    }

    /// The length of the sound that the answer is about, in seconds.
    pub fn duration(&self) -> Option<&'a RawValue> {
        self.duration
    }

    /// OpenAI's usage of hosted tools.
    pub fn tool_usage(&self) -> Option<&'a RawValue> {
        self.tool_usage
    }

    /// The items of a response's output.
    pub fn items<T: Deserialize<'a>>(&self) -> Vec<T> {
        list(self.output)
    }

    /// The tools that a response repeats from its request.
    pub fn tools<T: Deserialize<'a>>(&self) -> Vec<T> {
        list(self.tools)
    }

    /// Gemini's candidates, if they speak of searches.
    pub fn grounded_candidates(&self) -> Option<&'a RawValue> {
        self.candidates.filter(|raw| memchr::memmem::find(raw.get().as_bytes(), b"\"groundingMetadata\"").is_some())
    }

    /// The id of a background response, and whether its work goes on; `None`: the answer is no background response.
    pub fn background(&self) -> Option<(Box<str>, bool)> {
        let id: String = json::lenient(self.id?.get().as_bytes())?;
        let goes_on = matches!(word(self.status).as_str(), "queued" | "in_progress");
        (self.background?.get() == "true" && !id.is_empty() && id.len() <= 256).then(|| (id.into(), goes_on))
    }

    /// Whether the answer carries an error in one of the known shapes.
    pub fn is_error(&self) -> bool {
        self.error.is_some_and(|error| !matches!(error.get(), "false" | "\"\"" | "{}"))
            || word(self.object) == "error"
            || word(self.kind) == "error"
    }

    /// Whether the chunk has no choice, as OpenAI's usage chunk.
    pub fn has_no_choices(&self) -> bool {
        self.choices.is_none_or(|choices| choices.get().trim_matches(['[', ']', ' ', '\n', '\t', '\r']).is_empty())
    }

    /// Why the answer ended. The first choice or candidate counts for all.
    pub fn finish(&self, wire: Wire) -> Option<Finish> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Part {
            #[serde(alias = "finishReason", alias = "blockReason", alias = "stop_reason")]
            finish_reason: Text,
            reason: Text,
            #[serde(rename = "type")]
            kind: Text,
        }
        let parts = |raw: Option<&'a RawValue>| raw.and_then(|raw| json::lenient::<Vec<Part>>(raw.get().as_bytes())).unwrap_or_default();
        let part = |raw: Option<&'a RawValue>| raw.and_then(object::<Part>).unwrap_or_default();
        match wire {
            Wire::Chat => parts(self.choices).iter().find_map(|choice| Finish::openai(choice.finish_reason.as_str())),
            Wire::Responses => match word(self.status).as_str() {
                "completed" if parts(self.output).iter().any(|item| item.kind.as_str() == "function_call") => Some(Finish::ToolCalls),
                "completed" => Some(Finish::Stop),
                "incomplete" => Some(match part(self.incomplete_details).reason.as_str() {
                    "max_output_tokens" => Finish::Length,
                    "content_filter" => Finish::ContentFilter,
                    _ => Finish::Other,
                }),
                "failed" | "cancelled" => Some(Finish::Other),
                _ => None,
            },
            Wire::Anthropic | Wire::Bedrock => {
                Finish::anthropic(&word(self.stop_reason)).or_else(|| Finish::anthropic(part(self.delta).finish_reason.as_str()))
            }
            Wire::Gemini => {
                let blocked = part(self.prompt_feedback).finish_reason.0.map(|_| Finish::ContentFilter);
                blocked.or_else(|| parts(self.candidates).iter().find_map(|candidate| Finish::gemini(candidate.finish_reason.as_str())))
            }
            Wire::Embeddings | Wire::Media | Wire::Unknown => None,
        }
    }
}

fn object<'a, T: Deserialize<'a>>(raw: &'a RawValue) -> Option<T> {
    raw.get().starts_with('{').then(|| json::lenient(raw.get().as_bytes())).flatten()
}

fn list<'a, T: Deserialize<'a>>(raw: Option<&'a RawValue>) -> Vec<T> {
    raw.and_then(|raw| json::lenient(raw.get().as_bytes())).unwrap_or_default()
}

fn word(raw: Option<&RawValue>) -> String {
    raw.and_then(|raw| json::lenient(raw.get().as_bytes())).unwrap_or_default()
}
