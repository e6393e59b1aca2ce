//! Passwords in URLs of PostgreSQL: where one may stand, and how a text is shown without it. Pure.

/// Whether a URL's parameter of this name may say a password. Names are plain words; the client decodes escapes in them, behind which
/// anything may hide.
pub fn may_be_password(name: &str) -> bool {
    name.contains('%') || name.to_ascii_lowercase().contains("pass")
}

/// The text with asterisks, byte for byte, for what may be a password in URLs of PostgreSQL: for showing a file that is not accepted. Where
/// it cannot be told where the password ends, too much of the line is hidden and not too little.
pub fn without_passwords(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let mut hide = |from: usize, to: usize| bytes.get_mut(from..to).into_iter().for_each(|secret| secret.fill(b'*'));
    for (scheme_end, _) in text.match_indices("://") {
        let ends_before = |scheme: &str| {
            let at = scheme_end.checked_sub(scheme.len())?;
            text.get(at..scheme_end)?.eq_ignore_ascii_case(scheme).then_some(at)
        };
        let Some(scheme) = ["postgres", "postgresql"].into_iter().find_map(ends_before) else { continue };
        let start = scheme_end + "://".len();
        let line = text[start..].lines().next().unwrap_or_default();
        let value = match text[..scheme].chars().next_back() {
            Some(quote @ ('"' | '\'')) => line.split(quote).next(),
            _ => line.split(|c: char| c.is_whitespace() || [',', '}', ']'].contains(&c)).next(),
        };
        // Without a user, a character that ends values may stand in the password.
        let url = value.filter(|value| value.contains('@')).unwrap_or(line);
        let authority = url.find(['/', '?']).unwrap_or(url.len());
        match url.rfind('@') {
            Some(at) => url[..at].find(':').into_iter().for_each(|colon| hide(start + colon + 1, start + at)),
            None => {
                let after = url[..authority].split_once(':').map(|(_, after)| after);
                let port = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
                after.filter(|after| !port(after)).into_iter().for_each(|after| {
                    hide(start + authority - after.len(), start + authority);
                });
            }
        }
        let mut at = start + url.find('?').map_or(url.len(), |mark| mark + 1);
        for part in text[at..start + url.len()].split('&') {
            if let Some((name, _)) = part.split_once('=').filter(|(name, _)| may_be_password(name)) {
                hide(at + name.len() + 1, at + part.len());
            }
            at += part.len() + 1;
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_of_a_file_has_no_password_and_everything_else_in_its_place() {
        for (text, shown) in [
            (
                r#"{ events: "postgres://me:secret@db/events", a: 1 }"#,
                r#"{ events: "postgres://me:******@db/events", a: 1 }"#,
            ),
            ("events: postgresql://me:a@b:ü@db:5433/e # x@y:z", "events: postgresql://me:******@db:5433/e # x@y:z"),
            ("{ events: postgres://me:a,b c}@db/e }", "{ events: postgres://me:******@db/e }"),
            ("events: POSTGRES://me:secret/db", "events: POSTGRES://me:******/db"),
            ("x=postgres://me@db/e?a=b&password=secret&c=d", "x=postgres://me@db/e?a=b&password=******&c=d"),
            ("'postgres://me@db/e?p%61ssword=a b,c'", "'postgres://me@db/e?p%61ssword=*****'"),
            ("postgres://a:b@c\npostgres://d:e@f", "postgres://a:*@c\npostgres://d:*@f"),
        ] {
            assert_eq!(without_passwords(text), shown);
            assert_eq!(text.len(), shown.len());
        }
        for innocent in [
            "{ events: postgres://me@db:5433/events?a=b, x: y }",
            "postgres://db:5433/events",
            "{ in: postgres://USER@HOST/DATABASE, passfile: /etc/gauntlet/pgpass }",
            "target: http://127.0.0.1:8080/?password=x",
            "ü://:@",
        ] {
            assert_eq!(without_passwords(innocent), innocent);
        }
    }
}
