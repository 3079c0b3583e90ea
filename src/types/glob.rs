//! Patterns of slot names. `*` matches any run of characters, also `/`; `?` one character; `[...]`
//! a set, with ranges, and its complement if it begins with `!` or `^`; `\` escapes.
//!
//! Existing crates match paths: in them `**`, `{` or `/` have special meanings, or `?` is one byte.

/// A parsed pattern.
#[derive(Debug)]
pub(crate) struct Glob {
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Run,
    One,
    Char(char),
    Set { ranges: Vec<(char, char)>, negated: bool },
}

impl Glob {
    /// The error is a message that says what is wrong with the pattern.
    pub(crate) fn new(pattern: &str) -> Result<Glob, String> {
        let wrong = |why: &str| format!("{pattern:?} is not a pattern: {why}");
        let mut parts = Vec::new();
        let mut chars = pattern.chars();
        while let Some(c) = chars.next() {
            parts.push(match c {
                '*' => Part::Run,
                '?' => Part::One,
                '\\' => {
                    Part::Char(chars.next().ok_or_else(|| wrong("nothing follows the last \\"))?)
                }
                '[' => set(&mut chars)
                    .ok_or_else(|| wrong("a [ without a ]; write \\[ for the character itself"))?,
                c => Part::Char(c),
            });
        }
        Ok(Glob { parts })
    }

    /// Whether it matches one name only.
    pub(crate) fn is_name(&self) -> bool {
        self.parts.iter().all(|part| matches!(part, Part::Char(_)))
    }

    pub(crate) fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        let (mut part, mut at) = (0, 0);
        // Where to go on after a mismatch: the last `*`, one character longer. Earlier ones need no
        // second try, so this takes at most pattern x name steps.
        let mut retry: Option<(usize, usize)> = None;
        loop {
            match self.parts.get(part) {
                Some(Part::Run) => {
                    part += 1;
                    retry = Some((part, at));
                    continue;
                }
                Some(one) if name.get(at).is_some_and(|c| one.takes(*c)) => {
                    part += 1;
                    at += 1;
                    continue;
                }
                None if at == name.len() => return true,
                _ => {}
            }
            match retry {
                Some((after, from)) if from < name.len() => {
                    retry = Some((after, from + 1));
                    (part, at) = (after, from + 1);
                }
                _ => return false,
            }
        }
    }
}

impl Part {
    fn takes(&self, c: char) -> bool {
        match self {
            Part::Run => false,
            Part::One => true,
            Part::Char(own) => *own == c,
            Part::Set { ranges, negated } => {
                ranges.iter().any(|(a, b)| (*a..=*b).contains(&c)) != *negated
            }
        }
    }
}

/// Parses what follows a `[`; `None` if its `]` is missing. A `]` at the start stands for itself.
fn set(chars: &mut std::str::Chars<'_>) -> Option<Part> {
    let mut ranges = Vec::new();
    let mut c = chars.next()?;
    let negated = c == '!' || c == '^';
    if negated {
        c = chars.next()?;
    }
    loop {
        if c == '\\' {
            c = chars.next()?;
        }
        let mut last = c;
        let mut ahead = chars.clone();
        if ahead.next() == Some('-') && ahead.next()? != ']' {
            chars.next();
            last = chars.next()?;
            if last == '\\' {
                last = chars.next()?;
            }
        }
        ranges.push((c, last));
        c = chars.next()?;
        if c == ']' {
            return Some(Part::Set { ranges, negated });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_as_the_documentation_says() {
        let yes = [
            ("*", ""),
            ("*", "a/b"),
            ("a*", "a"),
            ("robot/*", "robot/arm/x"),
            ("*x", "robot/x"),
            ("**/x", "a/b/x"),
            ("?", "é"),
            ("a?c", "a/c"),
            ("[abc]1", "b1"),
            ("[a-c]", "b"),
            ("[!a-c]", "d"),
            ("[^a]", "b"),
            ("[]]", "]"),
            ("[a-]", "-"),
            ("[\\]x]", "]"),
            ("\\*", "*"),
            ("\\[a]", "[a]"),
            ("{a,b}", "{a,b}"),
            ("a*b*c", "aXbbYc"),
            ("*a*a*b", "aaaaab"),
            ("x]", "x]"),
            ("", ""),
        ];
        for (pattern, name) in yes {
            assert!(Glob::new(pattern).unwrap().matches(name), "{pattern} {name}");
        }
        let no = [
            ("", "a"),
            ("?", ""),
            ("a", "A"),
            ("**/x", "x"),
            ("[a-c]", "d"),
            ("[!a]", "a"),
            ("\\*", "a"),
            ("{a,b}", "a"),
            ("a*b", "abc"),
            ("?", "ab"),
            ("[ab]", "ab"),
        ];
        for (pattern, name) in no {
            assert!(!Glob::new(pattern).unwrap().matches(name), "{pattern} {name}");
        }
    }

    #[test]
    fn what_is_not_a_pattern_is_refused() {
        for bad in ["[", "[]", "[a", "[a-", "a\\", "[!", "[\\"] {
            assert!(Glob::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn many_stars_do_not_take_exponential_time() {
        let glob = Glob::new(&"a*".repeat(30)).unwrap();
        assert!(!glob.matches(&("a".repeat(29) + &"b".repeat(200))));
    }
}
