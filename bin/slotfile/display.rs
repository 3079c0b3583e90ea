//! Makes untrusted text safe to show: characters that are invisible, or that a terminal acts on
//! (such as those that reverse the direction of the text), are escaped.

/// Characters that are invisible although they count as letters or marks.
const INVISIBLE: [(char, char); 10] = [
    ('\u{34f}', '\u{34f}'),
    ('\u{115f}', '\u{1160}'),
    ('\u{17b4}', '\u{17b5}'),
    ('\u{180b}', '\u{180f}'),
    ('\u{2800}', '\u{2800}'),
    ('\u{3164}', '\u{3164}'),
    ('\u{fe00}', '\u{fe0f}'),
    ('\u{ffa0}', '\u{ffa0}'),
    ('\u{1d173}', '\u{1d17a}'),
    ('\u{e0000}', '\u{e0fff}'),
];

/// Whether a reader sees this character as what it is.
fn is_seen(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_control();
    }
    // After a letter, so that a combining mark has something to combine with.
    let escaped = ['a', c].iter().collect::<String>().escape_debug().count() > 2;
    !escaped && !INVISIBLE.iter().any(|(first, last)| (*first..=*last).contains(&c))
}

/// The text on one line, with what cannot be seen escaped.
pub(crate) fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c.escape_debug().count() {
            _ if is_seen(c) => out.push(c),
            1 => out.extend(c.escape_unicode()),
            _ => out.extend(c.escape_debug()),
        }
    }
    out
}

/// A text in quotes.
pub(crate) fn quoted(text: &str) -> String {
    visible(&format!("{text:?}"))
}

/// A slot's name: as it is, but quoted where that would mislead.
pub(crate) fn name(name: &str) -> String {
    let misleads = name.starts_with([' ', '"'])
        || name.ends_with(' ')
        || name.contains("  ")
        || name.contains(|c| !is_seen(c))
        // A combining mark without a letter before it.
        || name.chars().next().is_some_and(|c| c.escape_debug().count() > 2);
    if misleads { quoted(name) } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_seen_is_escaped() {
        for plain in ["hits", "robot/arm 1", "it's", "größe", "e\u{301}", "数", "a\\b"] {
            assert_eq!(name(plain), plain);
            assert_eq!(visible(plain), plain);
        }
        for (text, shown) in [
            ("a\u{202e}b", r#""a\u{202e}b""#),
            ("a\u{200b}b", r#""a\u{200b}b""#),
            ("\u{feff}", r#""\u{feff}""#),
            ("a\u{3164}", r#""a\u{3164}""#),
            ("a\u{fe0f}", r#""a\u{fe0f}""#),
            ("a\u{a0}b", r#""a\u{a0}b""#),
            ("a\u{e0061}", r#""a\u{e0061}""#),
            (" ", r#"" ""#),
            ("a  b", r#""a  b""#),
            ("\"a", r#""\"a""#),
            ("\u{301}a", r#""\u{301}a""#),
        ] {
            assert_eq!(name(text), shown);
        }
        assert_eq!(visible("a\nb\u{1b}[31m\u{2066}"), r"a\nb\u{1b}[31m\u{2066}");
    }
}
