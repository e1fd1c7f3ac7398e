//! Tokens of an issuer: which count, which do not, and what happens while the issuer changes its keys or is away.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    rsa,
    signature::{self, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _},
};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use http::{Request, StatusCode};
use outrigger::{
    fetch::{Answer, Failed},
    policy::auth::issuer::Errander,
};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::world::{BEGIN, World, pass, run, secs};

/// A key of an issuer.
enum Signer {
    Rsa(rsa::KeyPair),
    Ec(EcdsaKeyPair),
    Ed(Ed25519KeyPair),
}

fn b64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

impl Signer {
    fn ed() -> Self {
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("made");
        Self::Ed(Ed25519KeyPair::from_pkcs8(made.as_ref()).expect("a key"))
    }

    fn ec() -> Self {
        let kind = &signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        let made = EcdsaKeyPair::generate_pkcs8(kind, &SystemRandom::new()).expect("made");
        Self::Ec(EcdsaKeyPair::from_pkcs8(kind, made.as_ref()).expect("a key"))
    }

    fn rsa() -> Self {
        Self::Rsa(rsa::KeyPair::generate(rsa::KeySize::Rsa2048).expect("made"))
    }

    /// The public half, as the issuer publishes it.
    fn jwk(&self, kid: &str) -> Value {
        match self {
            // RSAPublicKey: a sequence of the modulus (257 bytes, the first is zero) and the exponent 65537.
            Self::Rsa(key) => json!({"kty": "RSA", "kid": kid, "use": "sig", "n": b64(&key.public_key().as_ref()[9..265]), "e": "AQAB"}),
            Self::Ec(key) => {
                let point = key.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "kid": kid, "x": b64(&point[1..33]), "y": b64(&point[33..])})
            }
            Self::Ed(key) => json!({"kty": "OKP", "crv": "Ed25519", "kid": kid, "alg": "EdDSA", "x": b64(key.public_key().as_ref())}),
        }
    }

    fn sign(&self, alg: &str, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Rsa(key) => {
                let kind: &dyn signature::RsaEncoding =
                    if alg == "PS256" { &signature::RSA_PSS_SHA256 } else { &signature::RSA_PKCS1_SHA256 };
                let mut out = vec![0; key.public_modulus_len()];
                key.sign(kind, &random, message, &mut out).expect("signed");
                out
            }
            Self::Ec(key) => key.sign(&random, message).expect("signed").as_ref().to_vec(),
            Self::Ed(key) => key.sign(message).as_ref().to_vec(),
        }
    }

    /// A token of these claims.
    fn token(&self, header: &Value, claims: &str) -> String {
        let message = format!("{}.{}", b64(header.to_string()), b64(claims));
        let signature = self.sign(header["alg"].as_str().unwrap_or_default(), message.as_bytes());
        format!("{message}.{}", b64(signature))
    }
}

const ISSUER: &str = "https://login.example/";

fn claims(more: &Value) -> String {
    let mut claims = json!({"iss": ISSUER, "aud": "https://shop.example", "sub": "ann", "exp": BEGIN + 600, "iat": BEGIN});
    claims.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    claims.as_object_mut().expect("an object").retain(|_, value| !value.is_null());
    claims.to_string()
}

fn set(keys: &[Value]) -> String {
    json!({"keys": keys}).to_string()
}

fn yaml(keys: &str, more: &str) -> String {
    format!(
        "inbound:\n  app: http://app.test\n  defaults: {{auth: {{jwt: {{{keys}, issuer: '{ISSUER}', audience: 'https://shop.example' {more}}}}}}}\n  \
         routes: [{{name: admin, match: {{path: /admin}}, auth: {{scopes: [orders.write]}}}}]\n"
    )
}

fn file(text: &str) -> NamedTempFile {
    let file = NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), text).expect("written");
    file
}

/// Asks from an address that nobody has used: bad tokens of one address would be slowed.
async fn ask(world: &World, token: &str) -> (u16, String) {
    static ADDRESSES: AtomicUsize = AtomicUsize::new(0);
    let nth = ADDRESSES.fetch_add(1, Ordering::Relaxed);
    let answer = world
        .client()
        .from(&format!("198.18.{}.{}", nth / 250, nth % 250))
        .ask(Request::get("/a").header("authorization", format!("Bearer {token}")), "")
        .await;
    let why = if answer.status == StatusCode::OK { String::new() } else { answer.json()["detail"].as_str().unwrap_or_default().to_owned() };
    (answer.status.as_u16(), why)
}

#[test]
fn what_an_attacker_makes_of_a_token_counts_for_nothing() {
    run(async {
        let (rsa, ec, ed, evil) = (Signer::rsa(), Signer::ec(), Signer::ed(), Signer::ed());
        let public = rsa.jwk("r");
        let keys = file(&set(&[
            public.clone(),
            ec.jwk("e"),
            ed.jwk("d"),
            json!({"kty": "oct", "kid": "o", "k": b64("secret")}),
            json!({"kty": "new"}),
        ]));
        let world = World::new(&yaml(&format!("jwks_file: '{}'", keys.path().display()), "")).await;
        let usual = claims(&json!({}));
        let header = |alg: &str, kid: &str| json!({"alg": alg, "kid": kid, "typ": "JWT"});
        let of = |more: Value| ed.token(&header("EdDSA", "d"), &claims(&more));
        let with = |more: Value| {
            let mut header = header("EdDSA", "d");
            header.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            header
        };
        for (name, token) in [
            ("RS256", rsa.token(&header("RS256", "r"), &usual)),
            ("PS256", rsa.token(&header("PS256", "r"), &usual)),
            ("ES256", ec.token(&header("ES256", "e"), &usual)),
            ("EdDSA", ed.token(&header("EdDSA", "d"), &usual)),
            ("no kid", ed.token(&json!({"alg": "EdDSA"}), &usual)),
            ("an access token", ed.token(&with(json!({"typ": "at+JWT"})), &usual)),
            ("several audiences", of(json!({"aud": ["https://other.example", "https://shop.example"]}))),
            ("within the leeway", of(json!({"exp": BEGIN - 20}))),
            ("a fraction", of(json!({"exp": BEGIN as f64 + 0.5}))),
            (
                "keys named elsewhere are not asked",
                ed.token(&with(json!({"jku": "https://evil.example/", "jwk": evil.jwk("d"), "x5u": "https://evil.example/"})), &usual),
            ),
        ] {
            assert_eq!(ask(&world, &token).await, (200, String::new()), "{name}");
        }
        let good = ed.token(&header("EdDSA", "d"), &usual);
        let (message, signature) = good.rsplit_once('.').expect("three parts");
        let (head, _) = message.split_once('.').expect("two parts");
        let none = |alg: &str| format!("{}.{}.", b64(json!({"alg": alg}).to_string()), b64(&usual));
        let confused = |secret: &[u8]| {
            let message = format!("{}.{}", b64(header("HS256", "r").to_string()), b64(&usual));
            let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), message.as_bytes());
            format!("{message}.{}", b64(tag.as_ref()))
        };
        for (name, token, part) in [
            ("alg none", none("none"), "algorithm does not count"),
            ("alg NonE", none("NonE"), "algorithm does not count"),
            ("no alg", format!("{}.{}.", b64("{}"), b64(&usual)), "header cannot be read"),
            ("HS256 with the public key", confused(public.to_string().as_bytes()), "algorithm does not count"),
            ("HS256 with the modulus", confused(public["n"].as_str().expect("text").as_bytes()), "algorithm does not count"),
            ("HS256 with the set's own secret", confused(b"secret"), "algorithm does not count"),
            ("another kind of key", ed.token(&header("EdDSA", "r"), &usual), "does not publish"),
            ("RS256 of another", Signer::rsa().token(&header("RS256", "r"), &usual), "signature is wrong"),
            ("kid climbs", ed.token(&header("EdDSA", "../../../../dev/null"), &usual), "does not publish"),
            ("kid asks a database", ed.token(&header("EdDSA", "d' OR '1'='1"), &usual), "does not publish"),
            ("its own key", evil.token(&with(json!({"jwk": evil.jwk("d")})), &usual), "signature is wrong"),
            ("a key elsewhere", evil.token(&with(json!({"jku": "https://evil.example/"})), &usual), "signature is wrong"),
            (
                "certificates of its own",
                evil.token(&with(json!({"x5u": "https://evil.example/", "x5c": ["MII="]})), &usual),
                "signature is wrong",
            ),
            ("an extension", ed.token(&with(json!({"crit": ["b64"], "b64": false})), &usual), "crit"),
            ("a logout token", ed.token(&with(json!({"typ": "logout+jwt"})), &usual), "typ"),
            (
                "a header twice",
                format!("{}.{}.{signature}", b64("{\"alg\":\"none\",\"alg\":\"EdDSA\"}"), b64(&usual)),
                "header cannot be read",
            ),
            ("over", of(json!({"exp": BEGIN - 31})), "has expired"),
            ("no end", of(json!({"exp": null})), "exp"),
            ("an end in words", of(json!({"exp": "2100-01-01"})), "exp"),
            ("an end as a text of digits", of(json!({"exp": (BEGIN + 600).to_string()})), "exp"),
            ("an end beyond time", of(json!({"exp": 1e300})), "exp"),
            ("not yet", of(json!({"nbf": BEGIN + 60})), "not good yet"),
            ("a beginning in words", of(json!({"nbf": "now"})), "nbf"),
            ("another issuer", of(json!({"iss": "https://login.example"})), "iss"),
            ("a list of issuers", of(json!({"iss": [ISSUER]})), "iss"),
            ("no audience", of(json!({"aud": null})), "aud"),
            ("other audiences", of(json!({"aud": ["https://shop.example.evil.example"]})), "aud"),
            ("an audience within", of(json!({"aud": {"a": "https://shop.example"}})), "aud"),
            ("nobody", of(json!({"sub": null})), "sub"),
            ("an empty name", of(json!({"sub": ""})), "sub"),
            ("a name with a line feed", of(json!({"sub": "ann\nadmin"})), "sub"),
            ("a claim twice", ed.token(&header("EdDSA", "d"), &usual.replacen('{', "{\"sub\":\"admin\",", 1)), "stands twice"),
            (
                "other claims, the same signature",
                format!("{head}.{}.{signature}", b64(claims(&json!({"sub": "admin"})))),
                "signature is wrong",
            ),
            ("cut", message.to_owned(), "three parts"),
            ("no signature", format!("{message}."), "signature is wrong"),
            ("half a signature", format!("{message}.{}", &signature[..40]), "signature is wrong"),
            ("with padding", format!("{good}="), "signature is wrong"),
            ("five parts (JWE)", format!("{good}.a.b"), "three parts"),
            ("huge", of(json!({"pad": "a".repeat(8 << 10)})), "longer than"),
            ("nothing", String::new(), "no credential"),
            ("noise", "a.b.c".to_owned(), "base64url"),
        ] {
            let (status, why) = ask(&world, &token).await;
            assert!(status == 401 && why.contains(part), "{name}: {status} {why}");
        }
        assert_eq!(world.app.asked(), 10);
        assert!(world.app.seen().iter().all(|seen| seen.header("authorization").is_empty()), "the token is taken out");
    });
}

#[test]
fn a_shared_secret_counts_alone_and_never_beside_public_keys() {
    run(async {
        let secret = "0123456789abcdef0123456789abcdef";
        let world = World::new(&yaml(&format!("secret: {secret}"), "")).await;
        let token = |alg: &str, kind, secret: &str| {
            let message = format!("{}.{}", b64(json!({"alg": alg}).to_string()), b64(claims(&json!({}))));
            format!("{message}.{}", b64(hmac::sign(&hmac::Key::new(kind, secret.as_bytes()), message.as_bytes()).as_ref()))
        };
        assert_eq!(ask(&world, &token("HS256", hmac::HMAC_SHA256, secret)).await.0, 200);
        assert_eq!(ask(&world, &token("HS512", hmac::HMAC_SHA512, secret)).await.0, 200);
        assert!(ask(&world, &token("HS256", hmac::HMAC_SHA256, "another")).await.1.contains("signature is wrong"));
        assert!(ask(&world, &Signer::ed().token(&json!({"alg": "EdDSA"}), &claims(&json!({})))).await.1.contains("algorithm"));
    });
}

#[test]
fn claims_name_the_caller_the_tier_and_the_scopes() {
    run(async {
        let ed = Signer::ed();
        let keys = file(&set(&[ed.jwk("d")]));
        let more = ", caller: email, tier: 'app.plan', scopes: 'realm.roles', require: {email_verified: 'true', amr: mfa}";
        let base = yaml(&format!("jwks_file: '{}'", keys.path().display()), more);
        let world = World::new(&base.replace("  defaults:", "  caller: ['jwt:org', auth, client_ip]\n  defaults:")).await;
        let token = |more: &Value| ed.token(&json!({"alg": "EdDSA", "kid": "d"}), &claims(more));
        let full = json!({"email": "ann@x", "email_verified": true, "amr": ["pwd", "mfa"], "app": {"plan": "gold"}, "realm": {"roles": ["orders.write"]}});
        let mut of_org = full.clone();
        of_org["org"] = json!("acme");
        let mut lesser = full.clone();
        lesser["realm"] = json!({"roles": ["orders.read"]});
        let admin = |token: String| {
            let client = world.client();
            async move { client.ask(Request::get("/admin").header("authorization", format!("Bearer {token}")), "").await.status.as_u16() }
        };
        assert_eq!((admin(token(&full)).await, admin(token(&of_org)).await, admin(token(&lesser)).await), (200, 200, 403));
        for gone in ["email_verified", "amr", "email"] {
            let mut without = full.clone();
            without[gone] = json!(null);
            assert_eq!(ask(&world, &token(&without)).await.0, 401, "{gone}");
        }
        let log = world.log().await;
        let callers: Vec<_> = log.iter().filter(|line| line["status"] == 200).filter_map(|line| line["caller"].as_str()).collect();
        assert_eq!(callers, ["ann@x", "acme"]);
        assert!(!log.iter().any(|line| line.to_string().contains("eyJ")), "no line shows a token");
    });
}

/// An issuer whose answers the test says.
#[derive(Clone)]
struct Login {
    answer: Arc<Mutex<Result<String, u16>>>,
    asked: Arc<AtomicUsize>,
}

impl Login {
    fn new(answer: Result<String, u16>) -> Self {
        Self { answer: Arc::new(Mutex::new(answer)), asked: Arc::default() }
    }

    fn says(&self, answer: Result<String, u16>) {
        *self.answer.lock() = answer;
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    /// The proxy with this issuer.
    async fn world(&self) -> World {
        let world = World::new(&yaml("jwks: 'https://login.example/keys'", "")).await;
        let this = self.clone();
        world.shared.issuers.employ(Errander {
            send: Box::new(move |errand| {
                assert_eq!(errand.url, "https://login.example/keys");
                let this = this.clone();
                Box::pin(async move {
                    this.asked.fetch_add(1, Ordering::SeqCst);
                    pass(secs(1)).await;
                    let (status, body) = match &*this.answer.lock() {
                        Ok(set) => (200, set.clone()),
                        Err(status) => (*status, String::new()),
                    };
                    let status = StatusCode::from_u16(status).expect("a status");
                    Ok::<_, Failed>(Answer {
                        status,
                        headers: Default::default(),
                        body: body.into(),
                        took: secs(1),
                        peer: Default::default(),
                    })
                })
            }),
            on: tokio::runtime::Handle::current(),
            told: Box::new(|host, _| assert_eq!(host, "login.example")),
        });
        world
    }
}

#[test]
fn an_issuer_changes_its_keys_under_load_and_no_good_token_is_refused() {
    run(async {
        let signers: Vec<Signer> = (0..6).map(|_| Signer::ed()).collect();
        let kid = |at: usize| format!("k{at}");
        let login = Login::new(Ok(set(&[signers[0].jwk(&kid(0))])));
        let world = login.world().await;
        let mut made = HashMap::new();
        for at in 0..signers.len() {
            // The next key is used as soon as it is published; the last one's tokens stay good as long as its key is.
            let keys: Vec<Value> = (at.saturating_sub(1)..=at).map(|at| signers[at].jwk(&kid(at))).collect();
            login.says(Ok(set(&keys)));
            let asks = (0..40).map(|nth| {
                let at = if nth % 3 == 0 { at.saturating_sub(1) } else { at };
                let token = signers[at]
                    .token(&json!({"alg": "EdDSA", "kid": kid(at)}), &claims(&json!({"sub": format!("u{nth}"), "exp": BEGIN + 4000})));
                made.insert((at, nth), token.clone());
                let world = &world;
                async move { ask(world, &token).await }
            });
            for answer in futures_util::future::join_all(asks).await {
                assert_eq!(answer, (200, String::new()), "rotation {at}");
            }
            pass(secs(40)).await;
        }
        assert_eq!(login.asked(), 6, "once for each change, however many requests wait");
        // The first key is not published any more: its tokens end with it, those that were verified before too.
        assert!(ask(&world, &made[&(0, 1)]).await.1.contains("does not publish"));
    });
}

#[test]
fn keys_that_nobody_knows_are_asked_for_every_30_seconds_and_no_more() {
    run(async {
        let ed = Signer::ed();
        let login = Login::new(Ok(set(&[ed.jwk("d")])));
        let world = login.world().await;
        let good = ed.token(&json!({"alg": "EdDSA", "kid": "d"}), &claims(&json!({"exp": BEGIN + 9000})));
        assert_eq!(ask(&world, &good).await.0, 200);
        for round in 0..3 {
            for nth in 0..50 {
                let forged = Signer::ed().token(&json!({"alg": "EdDSA", "kid": format!("{round}-{nth}")}), &claims(&json!({})));
                assert_eq!(ask(&world, &forged).await.0, 401);
            }
            assert_eq!(ask(&world, &good).await.0, 200);
            pass(secs(31)).await;
        }
        assert_eq!(login.asked(), 1 + 2, "the first answer was new enough for the first round");
    });
}

#[test]
fn the_last_keys_count_while_the_issuer_is_away_and_without_any_nobody_gets_in() {
    run(async {
        let ed = Signer::ed();
        let login = Login::new(Err(503));
        let world = login.world().await;
        let token =
            |kid: &str, sub: &str| ed.token(&json!({"alg": "EdDSA", "kid": kid}), &claims(&json!({"sub": sub, "exp": BEGIN + 9000})));
        let refused = world.client().ask(Request::get("/a").header("authorization", format!("Bearer {}", token("d", "ann"))), "").await;
        assert_eq!(
            (refused.status.as_u16(), refused.json()["reason"].as_str(), refused.header("retry-after")),
            (503, Some("auth_unknown"), "1")
        );
        login.says(Ok(set(&[ed.jwk("d")])));
        pass(secs(3)).await;
        assert_eq!(ask(&world, &token("d", "ann")).await.0, 200);
        login.says(Err(500));
        pass(secs(3600)).await;
        for nth in 0..3 {
            assert_eq!(ask(&world, &token("d", &format!("u{nth}"))).await.0, 200, "new tokens too");
            pass(secs(60)).await;
        }
        assert_eq!(ask(&world, &token("new", "ann")).await.0, 503, "nobody can say whether it is good");
        login.says(Ok("{\"keys\": []}".into()));
        pass(secs(60)).await;
        assert_eq!(ask(&world, &token("d", "ann")).await.0, 200, "a set without keys is no set");
    });
}
