//! `OP VALUE`: whether a slot's content satisfies a comparison.

use std::cmp::Ordering;

use slotfile::{Data, Scalar, SlotType};

use crate::exit::Exit;
use crate::values::value;

/// The operators, named as in test(1), since a shell would take `<` and `>` for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
}

impl Comparison {
    const ALL: [Comparison; 6] = [Self::Eq, Self::Ne, Self::Lt, Self::Le, Self::Gt, Self::Ge];

    /// An error is a message that says what could be written instead.
    pub(crate) fn parse(word: &str) -> Result<Comparison, String> {
        Self::ALL.into_iter().find(|op| op.word() == word).ok_or_else(|| {
            format!("{} is not an operator; write eq, ne, lt, le, gt or ge", value::shown(word))
        })
    }

    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Eq => "eq",
            Self::Ne => "ne",
            Self::Lt => "lt",
            Self::Le => "le",
            Self::Gt => "gt",
            Self::Ge => "ge",
        }
    }

    /// Whether the comparison of `content` with `with`, of the same type, holds. Numbers compare
    /// as in IEEE 754 (a NaN is not equal, less or greater, even to itself; 0.0 equals -0.0),
    /// false is before true, texts and bytes compare byte by byte.
    pub(crate) fn holds(self, content: &Data, with: &Data) -> bool {
        let order = match (content, with) {
            (Data::Scalar(a), Data::Scalar(b)) => a.partial_cmp(b),
            (Data::Text(a), Data::Text(b)) => Some(a.cmp(b)),
            (Data::Bytes(a), Data::Bytes(b)) => Some(a.cmp(b)),
            _ => None,
        };
        match self {
            Self::Eq => order == Some(Ordering::Equal),
            Self::Ne => order != Some(Ordering::Equal),
            Self::Lt => order == Some(Ordering::Less),
            Self::Le => matches!(order, Some(Ordering::Less | Ordering::Equal)),
            Self::Gt => order == Some(Ordering::Greater),
            Self::Ge => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
        }
    }
}

/// Parses the word that a slot of this type is compared with. An error is an exit code and a
/// message; the caller adds the file and the slot.
pub(crate) fn operand(word: &str, slot_type: &SlotType) -> Result<Data, (Exit, String)> {
    if let SlotType::Array(..) | SlotType::Buffer(..) = slot_type {
        let what =
            format!("it is {slot_type}, and only single values, texts and bytes can be compared");
        return Err((Exit::TYPE, what));
    }
    value::from_words([word].into_iter(), slot_type).map_err(|what| (Exit::USAGE, what))
}

/// Whether both have the same bits, so 0.0 is not -0.0. All NaNs are the same, since all print
/// as `nan`: a value that the command line shows can also be given to it.
pub(crate) fn same(a: &Data, b: &Data) -> bool {
    match (a, b) {
        (Data::Scalar(a), Data::Scalar(b)) => {
            let bits = |x: &Scalar| value::one(*x).as_bytes().to_vec();
            bits(a) == bits(b) || (is_nan(*a) && is_nan(*b))
        }
        (Data::Array(a), Data::Array(b)) => a.as_bytes() == b.as_bytes(),
        (a, b) => a == b,
    }
}

fn is_nan(x: Scalar) -> bool {
    match x {
        Scalar::F32(x) => x.is_nan(),
        Scalar::F64(x) => x.is_nan(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The operators that hold.
    fn holding(content: &str, with: &str, slot_type: &str) -> String {
        let slot_type = slot_type.parse().unwrap();
        let content = operand(content, &slot_type).unwrap();
        let with = operand(with, &slot_type).unwrap();
        let all = Comparison::ALL.into_iter();
        let held = all.filter(|op| op.holds(&content, &with)).map(Comparison::word);
        held.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn contents_compare() {
        assert_eq!(holding("5", "5", "u8"), "eq le ge");
        assert_eq!(holding("-5", "5", "i64"), "ne lt le");
        assert_eq!(holding("18446744073709551615", "0", "u64"), "ne gt ge");
        assert_eq!(holding("false", "true", "bool"), "ne lt le");
        assert_eq!(holding("0.0", "-0.0", "f64"), "eq le ge");
        assert_eq!(holding("nan", "nan", "f32"), "ne");
        assert_eq!(holding("1", "nan", "f64"), "ne");
        assert_eq!(holding("-inf", "1e308", "f64"), "ne lt le");
        assert_eq!(holding("ab", "b", "text[9]"), "ne lt le");
        assert_eq!(holding("", "", "text[9]"), "eq le ge");
        assert_eq!(holding("ff", "00ff", "bytes[9]"), "ne gt ge");
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        for bad in ["", "==", "EQ", "equals", ">"] {
            assert!(Comparison::parse(bad).unwrap_err().contains("eq, ne, lt"), "{bad}");
        }
        for op in ["eq", "ne", "lt", "le", "gt", "ge"] {
            assert_eq!(Comparison::parse(op).unwrap().word(), op);
        }
        assert_eq!(operand("1", &"u8[2]".parse().unwrap()).unwrap_err().0, Exit::TYPE);
        assert_eq!(operand("300", &"u8".parse().unwrap()).unwrap_err().0, Exit::USAGE);
        assert_eq!(operand("x", &"f64".parse().unwrap()).unwrap_err().0, Exit::USAGE);
    }

    #[test]
    fn bits_decide() {
        let (nan, other_nan) = (Data::from(f64::NAN), Data::from(-f64::NAN));
        assert!(same(&nan, &nan) && same(&nan, &other_nan));
        assert!(!same(&Data::from(0.0), &Data::from(-0.0)));
        assert!(same(&Data::from("a"), &Data::from("a")));
        assert!(!same(&Data::from(1u8), &Data::from(2u8)));
    }
}
