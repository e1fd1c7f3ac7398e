//! A notice as mail, over SMTP (RFC 5321) with TLS, by a library. One connection a mail.

use std::time::Duration;

use lettre::{
    AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor,
    message::{Mailbox, header::ContentType},
    transport::smtp::{
        authentication::Credentials,
        client::{Tls, TlsParameters},
    },
};

use super::queue::Outcome;
use crate::{
    alert::Notice,
    config::{Mail, MailSecurity},
};

/// Time for a whole mail.
const WITHIN: Duration = Duration::from_secs(30);

/// Sends a notice.
pub(super) async fn send(mail: &Mail, notice: &Notice) -> Outcome {
    let (transport, message) = match (transport(mail), message(mail, notice)) {
        (Ok(transport), Ok(message)) => (transport, message),
        (Err(why), _) | (_, Err(why)) => return Outcome::Never(why),
    };
    match tokio::time::timeout(WITHIN, Box::pin(transport.send(message))).await {
        Ok(Ok(_)) => Outcome::Delivered,
        Ok(Err(error)) if error.is_permanent() => Outcome::Never(error.to_string()),
        Ok(Err(error)) => Outcome::Later(None, error.to_string()),
        Err(_) => Outcome::Later(None, format!("no answer within {WITHIN:?}")),
    }
}

fn transport(mail: &Mail) -> Result<AsyncSmtpTransport<Tokio1Executor>, String> {
    let parameters = TlsParameters::new(mail.host.clone()).map_err(|error| error.to_string())?;
    let tls = match (mail.security, &mail.login) {
        (MailSecurity::Tls, _) => Tls::Wrapper(parameters),
        // A password never travels in the clear.
        (MailSecurity::Opportunistic, Some(_)) => Tls::Required(parameters),
        (MailSecurity::Opportunistic, None) => Tls::Opportunistic(parameters),
    };
    let builder = AsyncSmtpTransport::<Tokio1Executor>::builder_dangerous(&mail.host).port(mail.port).tls(tls).timeout(Some(WITHIN));
    Ok(match &mail.login {
        Some((user, password)) => builder.credentials(Credentials::new(user.reveal().to_owned(), password.reveal().to_owned())).build(),
        None => builder.build(),
    })
}

fn message(mail: &Mail, notice: &Notice) -> Result<Message, String> {
    let mailbox = |address: &str| address.parse::<Mailbox>().map_err(|error| format!("{address}: {error}"));
    let mut builder = Message::builder().from(mailbox(&mail.from)?);
    for to in &mail.to {
        builder = builder.to(mailbox(to)?);
    }
    // A mail that is tried twice is the same mail.
    let id = format!("<{}@{}>", notice.id, mail.from.rsplit('@').next().unwrap_or("outrigger"));
    let message = builder.message_id(Some(id)).subject(notice.title()).header(ContentType::TEXT_PLAIN).body(notice.text());
    message.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{alert::Kind, notify::format::tests::notice};

    #[test]
    fn a_mail_has_one_subject_line_and_the_same_id_at_each_try() {
        let mail = Mail {
            host: "mail".into(),
            port: 25,
            security: MailSecurity::Opportunistic,
            login: None,
            from: "outrigger@example.com".into(),
            to: vec!["a@example.com".into(), "b@example.com".into()],
        };
        let mut evil = notice(Kind::Firing, 1);
        evil.items[0].subject = "x\r\nBcc: thief@example.com".into();
        let text = String::from_utf8(message(&mail, &evil).expect("a mail").formatted()).expect("text");
        let head = text.split("\r\n\r\n").next().expect("a head");
        assert!(!head.lines().any(|line| line.starts_with("Bcc:")), "{head}");
        assert!(head.contains("Message-ID: <n-1@example.com>") && head.contains("To: a@example.com, b@example.com"), "{head}");
    }
}
