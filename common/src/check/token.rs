//! Text to tokens. A name may hold `-`, so that a binary minus needs spaces around it; names with other characters
//! are written in double quotes.

use std::ops::Range;

use super::error::CheckError;
use crate::compare::Compare;

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Token {
    /// `users`, `kill-app`, `"GET /"`, and the words of the grammar.
    Name(String),
    /// In double quotes: never a word of the grammar.
    Quoted(String),
    /// With its unit: `300ms`, `0.1%`, `500/s`.
    Number(String),
    Compare(Compare),
    /// One of `+ - * / ( ) , . :`.
    Sign(char),
}

pub(super) type Spanned = (Token, Range<usize>);

pub(super) fn tokens(text: &str) -> Result<Vec<Spanned>, CheckError> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(c) = text[at..].chars().next() {
        let rest = &text[at..];
        let (token, length) = match c {
            _ if c.is_whitespace() => {
                at += c.len_utf8();
                continue;
            }
            '"' => quoted(rest, at)?,
            _ if c.is_ascii_digit() => number(rest),
            _ if c.is_ascii_alphabetic() || c == '_' => name(rest),
            '<' | '>' | '=' | '!' => comparison(rest, at)?,
            '+' | '-' | '*' | '/' | '(' | ')' | ',' | '.' | ':' => (Token::Sign(c), 1),
            _ => {
                let span = at..at + c.len_utf8();
                let help = "a name with other characters than letters, digits, `_` and `-` is written in double quotes";
                return Err(CheckError::new(span, format!("`{c}` has no meaning here"), help));
            }
        };
        found.push((token, at..at + length));
        at += length;
    }
    Ok(found)
}

fn quoted(rest: &str, at: usize) -> Result<(Token, usize), CheckError> {
    match rest[1..].find('"') {
        Some(end) => Ok((Token::Quoted(rest[1..=end].to_string()), end + 2)),
        None => Err(CheckError::new(at..at + rest.len(), "this quote is never closed", "end the name with `\"`")),
    }
}

/// Digits with what is glued to them; `/s`, `/m` or `/h` makes it a rate.
fn number(rest: &str) -> (Token, usize) {
    let glued = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '%');
    let mut length = rest.find(|c| !glued(c)).unwrap_or(rest.len());
    let mut after = rest[length..].chars();
    if (after.next(), after.next().map(|c| matches!(c, 's' | 'm' | 'h'))) == (Some('/'), Some(true))
        && !after.next().is_some_and(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '('))
    {
        length += 2;
    }
    (Token::Number(rest[..length].to_string()), length)
}

fn name(rest: &str) -> (Token, usize) {
    let mut length = 0;
    let mut chars = rest.chars().peekable();
    while let Some(c) = chars.next() {
        let inside = c.is_ascii_alphanumeric() || c == '_';
        // A hyphen belongs to the name only between two of its characters.
        let joins = c == '-' && chars.peek().is_some_and(|next| next.is_ascii_alphanumeric() || *next == '_');
        if !inside && !joins {
            break;
        }
        length += 1;
    }
    // `p99.9` is one word, `users.login` is three tokens.
    if rest[..length].strip_prefix('p').is_some_and(|d| !d.is_empty() && d.chars().all(|c| c.is_ascii_digit()))
        && rest[length..].starts_with('.')
    {
        let digits = rest[length + 1..].find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len() - length - 1);
        length += if digits > 0 { digits + 1 } else { 0 };
    }
    (Token::Name(rest[..length].to_string()), length)
}

fn comparison(rest: &str, at: usize) -> Result<(Token, usize), CheckError> {
    let (compare, length) = match rest {
        _ if rest.starts_with("<=") => (Compare::AtMost, 2),
        _ if rest.starts_with(">=") => (Compare::AtLeast, 2),
        _ if rest.starts_with("==") => (Compare::Equal, 2),
        _ if rest.starts_with("!=") => (Compare::NotEqual, 2),
        _ if rest.starts_with('<') => (Compare::Below, 1),
        _ if rest.starts_with('>') => (Compare::Above, 1),
        _ => {
            let wrong = &rest[..1];
            return Err(CheckError::new(
                at..at + 1,
                format!("`{wrong}` is no comparison"),
                "write ==, !=, <, <=, > or >=",
            ));
        }
    };
    Ok((Token::Compare(compare), length))
}

/// A name as the grammar reads it again.
pub(super) fn quote(name: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    let word = ["in", "before", "after", "outside", "every", "and"].contains(&name);
    let starts = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    if starts && !word && name.chars().all(plain) && !name.ends_with('-') && !name.contains("--") {
        name.into()
    } else {
        format!("\"{name}\"")
    }
}
