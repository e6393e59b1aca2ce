//! Text with holes, cut into segments once. What a hole may be is [`Hole`]'s; all that is drawn comes from the iteration's
//! own stream.

use gauntlet_common::scenario::Hole;
use gauntlet_common::seed::Draws;
use gauntlet_process::clock;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    Literal(Box<[u8]>),
    User,
    Iteration,
    Uuid,
    Int(u64, u64),
    /// One of these, escaped already.
    Pick(Box<[Box<[u8]>]>),
    /// Wall clock less so much, us.
    NowUs(u64),
    /// us since the moment that this variable holds; 0 where it holds none, or a later one.
    Since(usize),
    /// Index of a variable.
    Variable(usize, Escape),
}

/// All but the unreserved characters of RFC 3986, section 2.3.
const OUTSIDE_PATHS: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// What a captured value needs where it is put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Escape {
    /// A body: as it is.
    None,
    /// Inside a JSON string.
    Json,
    /// In a path: percent-encoded.
    Path,
    /// In a header: without control characters.
    Header,
}

/// What the holes are filled with.
pub struct Context<'a> {
    pub user: u64,
    pub iteration: u64,
    pub variables: &'a [Vec<u8>],
    pub draws: &'a mut Draws,
}

/// Cuts a text. Unknown names are refused with what there is.
pub fn parse(text: &str, escape: Escape, variables: &[String]) -> Result<Vec<Segment>, String> {
    let mut segments = Vec::new();
    let mut rest = text;
    while let Some(begin) = rest.find("{{") {
        push_literal(&mut segments, &rest.as_bytes()[..begin]);
        let inner = &rest[begin + 2..];
        let end =
            inner.find("}}").ok_or_else(|| format!("`{text}` opens a template and does not close it with }}}}"))?;
        segments.push(hole(inner[..end].trim(), escape, variables)?);
        rest = &inner[end + 2..];
    }
    push_literal(&mut segments, rest.as_bytes());
    Ok(segments)
}

/// Appends bytes, joined to a literal before them.
pub fn push_literal(segments: &mut Vec<Segment>, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    match segments.last_mut() {
        Some(Segment::Literal(last)) => *last = [last, bytes].concat().into(),
        _ => segments.push(Segment::Literal(bytes.into())),
    }
}

fn hole(inside: &str, escape: Escape, variables: &[String]) -> Result<Segment, String> {
    let variable = |name: &str| {
        variables.iter().position(|known| known == name).ok_or_else(|| {
            let all = if variables.is_empty() { "none".to_string() } else { variables.join(", ") };
            format!("`{name}` fills no template; there are user, iteration, uuid, int(1,100) and variables ({all})")
        })
    };
    Ok(match Hole::parse(inside)? {
        Hole::User => Segment::User,
        Hole::Iteration => Segment::Iteration,
        Hole::Uuid => Segment::Uuid,
        Hole::Int(min, max) => Segment::Int(min, max),
        Hole::Pick(texts) => Segment::Pick(texts.iter().map(|text| escaped_text(text, escape)).collect()),
        Hole::NowUs(before) => Segment::NowUs(before.0),
        Hole::Since(name) => Segment::Since(variable(&name)?),
        Hole::Variable(name) => Segment::Variable(variable(&name)?, escape),
    })
}

fn escaped_text(text: &str, escape: Escape) -> Box<[u8]> {
    let mut out = Vec::new();
    escaped(text.as_bytes(), escape, &mut out);
    out.into()
}

/// Appends a rendered template. Allocates nothing but what `out` lacks.
pub fn render(segments: &[Segment], context: &mut Context<'_>, out: &mut Vec<u8>) {
    for segment in segments {
        match segment {
            Segment::Literal(bytes) => out.extend_from_slice(bytes),
            Segment::User => decimal(context.user, out),
            Segment::Iteration => decimal(context.iteration, out),
            Segment::Uuid => uuid(context.draws, out),
            Segment::Int(min, max) => decimal(context.draws.between(*min, *max), out),
            Segment::Pick(texts) => out.extend_from_slice(&texts[context.draws.below(texts.len() as u64) as usize]),
            Segment::NowUs(before) => decimal(clock::unix_us().saturating_sub(*before), out),
            Segment::Since(index) => {
                let then =
                    context.variables.get(*index).and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
                decimal(then.map_or(0, |then| clock::unix_us().saturating_sub(then)), out);
            }
            Segment::Variable(index, escape) => {
                let value = context.variables.get(*index).map_or(&[][..], Vec::as_slice);
                escaped(value, *escape, out);
            }
        }
    }
}

/// A number's decimal digits.
pub fn decimal(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut begin = digits.len();
    loop {
        begin -= 1;
        digits[begin] = b'0' + (number % 10) as u8;
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[begin..]);
}

/// 16 hexadecimal digits.
pub fn hex(number: u64, out: &mut Vec<u8>) {
    let digits: [u8; 16] = std::array::from_fn(|i| b"0123456789abcdef"[(number >> (60 - 4 * i) & 15) as usize]);
    out.extend_from_slice(&digits);
}

/// A random UUID (version 4, RFC 9562) from two draws.
pub fn uuid(draws: &mut Draws, out: &mut Vec<u8>) {
    let value = uuid::Builder::from_random_bytes(
        (u128::from(draws.next_u64()) << 64 | u128::from(draws.next_u64())).to_be_bytes(),
    );
    let mut buffer = uuid::Uuid::encode_buffer();
    out.extend_from_slice(value.into_uuid().as_hyphenated().encode_lower(&mut buffer).as_bytes());
}

fn escaped(value: &[u8], escape: Escape, out: &mut Vec<u8>) {
    if escape == Escape::Path {
        return percent_encode(value, OUTSIDE_PATHS).for_each(|piece| out.extend_from_slice(piece.as_bytes()));
    }
    for &byte in value {
        match escape {
            Escape::Json if byte == b'"' || byte == b'\\' => out.extend([b'\\', byte]),
            Escape::Json if byte < 0x20 => {
                out.extend_from_slice(b"\\u00");
                out.extend([b"0123456789abcdef"[usize::from(byte >> 4)], b"0123456789abcdef"[usize::from(byte & 15)]]);
            }
            Escape::Header if byte < 0x20 || byte == 0x7f => {}
            _ => out.push(byte),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rendered(text: &str, escape: Escape, value: &str) -> String {
        let segments = parse(text, escape, &["id".to_string()]).unwrap();
        let variables = [value.as_bytes().to_vec()];
        let draws = &mut Draws::new(5);
        let mut out = Vec::new();
        render(&segments, &mut Context { user: 7, iteration: 12, variables: &variables, draws }, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn holes_are_filled_and_captures_escaped_for_their_place() {
        assert_eq!(rendered("u{{ user }}/{{iteration}}", Escape::None, ""), "u7/12");
        assert_eq!(rendered("/a/{{ id }}", Escape::Path, "x/y z"), "/a/x%2Fy%20z");
        assert_eq!(rendered("/{{ id }}", Escape::Path, "-._~Z9%ä"), "/-._~Z9%25%C3%A4");
        assert_eq!(rendered("\"{{ id }}\"", Escape::Json, "a\"\n"), "\"a\\\"\\u000a\"");
        assert_eq!(rendered("{{ id }}", Escape::Header, "a\r\nb"), "ab");
        let id = rendered("{{ uuid }}", Escape::None, "");
        assert_eq!(uuid::Uuid::parse_str(&id).unwrap().get_version_num(), 4);
        let n: u64 = rendered("{{ int(3,5) }}", Escape::None, "").parse().unwrap();
        assert!((3..=5).contains(&n));
        assert!(["x/y", "z"].contains(&rendered("{{ pick(x/y, z) }}", Escape::None, "").as_str()));
        assert!(
            ["x%2Fy", "%7E"].contains(&rendered("{{ pick(x/y, ~) }}", Escape::Path, "").replace('~', "%7E").as_str())
        );
    }

    #[test]
    fn moments_are_read_from_the_clock_and_spans_are_since_a_variable() {
        let number = |text: &str, value: &str| rendered(text, Escape::None, value).parse::<u64>().unwrap();
        let (now, before) = (number("{{ now_us }}", ""), number("{{ now_us(-5m) }}", ""));
        assert!((299_000_000..=300_000_000).contains(&(now - before)), "{now} {before}");
        assert!(number("{{ since(id) }}", &before.to_string()) >= 299_000_000);
        assert_eq!([number("{{ since(id) }}", ""), number("{{ since(id) }}", &u64::MAX.to_string())], [0, 0]);
    }

    #[test]
    fn a_name_that_fills_nothing_is_refused_with_what_there_is() {
        let error = parse("{{ usr }}", Escape::None, &["token".to_string()]).unwrap_err();
        assert!(error.contains("usr") && error.contains("user") && error.contains("token"), "{error}");
        assert!(parse("{{ user", Escape::None, &[]).is_err());
        assert!(parse("{{ int(5,3) }}", Escape::None, &[]).is_err());
    }
}
