//! Text with holes, cut into segments once: `{{ user }}`, `{{ iteration }}`, `{{ uuid }}`, `{{ int(1,100) }}` and the
//! names of captured variables. All that is drawn comes from the iteration's own stream.

use gauntlet_common::seed::Draws;

/// A piece of a template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    Literal(Box<[u8]>),
    User,
    Iteration,
    Uuid,
    Int(u64, u64),
    /// Index of a captured variable.
    Variable(usize, Escape),
}

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

fn hole(name: &str, escape: Escape, variables: &[String]) -> Result<Segment, String> {
    Ok(match name {
        "user" => Segment::User,
        "iteration" => Segment::Iteration,
        "uuid" => Segment::Uuid,
        _ => {
            if let Some(inside) = name.strip_prefix("int(").and_then(|n| n.strip_suffix(')')) {
                let bad = || format!("`{name}` is not two whole numbers, the smaller first: int(1,100)");
                let (min, max) = inside.split_once(',').ok_or_else(bad)?;
                let (min, max) = (min.trim().parse().map_err(|_| bad())?, max.trim().parse().map_err(|_| bad())?);
                return if min <= max { Ok(Segment::Int(min, max)) } else { Err(bad()) };
            }
            let known = variables.iter().position(|v| v == name).ok_or_else(|| {
                let all = if variables.is_empty() { "none".to_string() } else { variables.join(", ") };
                format!("`{name}` fills no template; there are user, iteration, uuid, int(1,100) and captures ({all})")
            })?;
            Segment::Variable(known, escape)
        }
    })
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
    for &byte in value {
        match escape {
            Escape::Json if byte == b'"' || byte == b'\\' => out.extend([b'\\', byte]),
            Escape::Json if byte < 0x20 => {
                out.extend_from_slice(b"\\u00");
                out.extend([b"0123456789abcdef"[usize::from(byte >> 4)], b"0123456789abcdef"[usize::from(byte & 15)]]);
            }
            Escape::Path if !(byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)) => {
                out.push(b'%');
                out.extend([b"0123456789ABCDEF"[usize::from(byte >> 4)], b"0123456789ABCDEF"[usize::from(byte & 15)]]);
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
        assert_eq!(rendered("\"{{ id }}\"", Escape::Json, "a\"\n"), "\"a\\\"\\u000a\"");
        assert_eq!(rendered("{{ id }}", Escape::Header, "a\r\nb"), "ab");
        let id = rendered("{{ uuid }}", Escape::None, "");
        assert_eq!(uuid::Uuid::parse_str(&id).unwrap().get_version_num(), 4);
        let n: u64 = rendered("{{ int(3,5) }}", Escape::None, "").parse().unwrap();
        assert!((3..=5).contains(&n));
    }

    #[test]
    fn a_name_that_fills_nothing_is_refused_with_what_there_is() {
        let error = parse("{{ usr }}", Escape::None, &["token".to_string()]).unwrap_err();
        assert!(error.contains("usr") && error.contains("user") && error.contains("token"), "{error}");
        assert!(parse("{{ user", Escape::None, &[]).is_err());
        assert!(parse("{{ int(5,3) }}", Escape::None, &[]).is_err());
    }
}
