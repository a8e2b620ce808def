//! Arithmetic on JSON's numbers: 64-bit integers stay exact, everything else is a double, nothing wraps or is infinite.

use std::cmp::Ordering;

use serde_json::{Number, Value};

use crate::expression::error::ExpressionError;
use crate::expression::tree::Arithmetic;

/// A number of JSON.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Num {
    /// Between the smallest `i64` and the largest `u64`.
    Int(i128),
    Float(f64),
}

impl Num {
    pub(super) fn of(value: &Value) -> Option<Self> {
        let Value::Number(number) = value else { return None };
        let int = number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from));
        int.map(Self::Int).or_else(|| number.as_f64().map(Self::Float))
    }

    pub(super) fn into_value(self) -> Result<Value, ExpressionError> {
        let number = match self {
            Self::Int(int) => {
                i64::try_from(int).map(Number::from).or_else(|_| u64::try_from(int).map(Number::from)).ok()
            }
            Self::Float(float) => Number::from_f64(float),
        };
        number.map(Value::Number).ok_or_else(|| {
            ExpressionError::of_type("the result is beyond what JSON holds (64-bit integers, finite doubles)")
        })
    }

    #[expect(clippy::cast_precision_loss, reason = "an operation with a double is done in doubles")]
    pub(super) fn as_f64(self) -> f64 {
        match self {
            Self::Int(int) => int as f64,
            Self::Float(float) => float,
        }
    }

    /// The whole part; none for what is beyond the range of integers.
    #[expect(clippy::cast_possible_truncation, reason = "the range is checked before")]
    pub(super) fn truncated(self) -> Option<i128> {
        match self {
            Self::Int(int) => Some(int),
            Self::Float(float) if float.abs() < 1e20 => Some(float.trunc() as i128),
            Self::Float(_) => None,
        }
    }

    pub(super) fn compare(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::Int(a), Self::Int(b)) => a.cmp(&b),
            (Self::Float(a), Self::Float(b)) => a.partial_cmp(&b).unwrap_or(Ordering::Equal),
            (Self::Float(a), Self::Int(_)) => other.compare(Self::Float(a)).reverse(),
            // Compared by the whole part first: a large integer has no double of its own.
            (Self::Int(a), Self::Float(b)) => match other.truncated() {
                Some(whole) => a.cmp(&whole).then_with(|| 0.0.partial_cmp(&(b - b.trunc())).unwrap_or(Ordering::Equal)),
                None if b > 0.0 => Ordering::Less,
                None => Ordering::Greater,
            },
        }
    }

    pub(super) fn apply(op: Arithmetic, a: Self, b: Self) -> Result<Self, ExpressionError> {
        let by_zero = matches!(op, Arithmetic::Divide | Arithmetic::DivideFloor | Arithmetic::Remainder);
        if by_zero && b.as_f64() == 0.0 {
            return Err(ExpressionError::of_type("division by zero; guard it, as in `a / b if b else 0`"));
        }
        let beyond =
            || ExpressionError::of_type("the result is beyond what JSON holds (64-bit integers, finite doubles)");
        if let (Self::Int(a), Self::Int(b)) = (a, b) {
            let exact = match op {
                Arithmetic::Add => a.checked_add(b),
                Arithmetic::Subtract => a.checked_sub(b),
                Arithmetic::Multiply => a.checked_mul(b),
                Arithmetic::DivideFloor => {
                    a.checked_div(b).map(|q| if a % b != 0 && (a < 0) != (b < 0) { q - 1 } else { q })
                }
                Arithmetic::Remainder => a.checked_rem(b).map(|r| if r != 0 && (r < 0) != (b < 0) { r + b } else { r }),
                Arithmetic::Power if b >= 0 => u32::try_from(b).ok().and_then(|b| a.checked_pow(b)),
                Arithmetic::Divide | Arithmetic::Power => return float(op, Self::Int(a), Self::Int(b)),
            };
            // The next operation works on 128 bits again, and so must begin within 64.
            return exact
                .filter(|n| i64::try_from(*n).is_ok() || u64::try_from(*n).is_ok())
                .map(Self::Int)
                .ok_or_else(beyond);
        }
        float(op, a, b)
    }
}

fn float(op: Arithmetic, a: Num, b: Num) -> Result<Num, ExpressionError> {
    let (a, b) = (a.as_f64(), b.as_f64());
    let result = match op {
        Arithmetic::Add => a + b,
        Arithmetic::Subtract => a - b,
        Arithmetic::Multiply => a * b,
        Arithmetic::Divide => a / b,
        Arithmetic::DivideFloor => (a / b).floor(),
        Arithmetic::Remainder => a - b * (a / b).floor(),
        Arithmetic::Power => a.powf(b),
    };
    if result.is_finite() {
        Ok(Num::Float(result))
    } else {
        Err(ExpressionError::of_type("the result is no finite number"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_and_doubles_compare_exactly() {
        let large = Num::Int(i128::from(u64::MAX));
        assert_eq!(large.compare(Num::Float(18_446_744_073_709_551_616.0)), Ordering::Less);
        assert_eq!(Num::Int(1).compare(Num::Float(1.0)), Ordering::Equal);
        assert_eq!(Num::Int(1).compare(Num::Float(1.5)), Ordering::Less);
        assert_eq!(Num::Int(-1).compare(Num::Float(-1.5)), Ordering::Greater);
        assert_eq!(Num::Float(1e300).compare(Num::Int(5)), Ordering::Greater);
        assert_eq!(Num::Float(-1e300).compare(Num::Int(5)), Ordering::Less);
    }

    #[test]
    fn division_rounds_down_as_in_jinja() {
        for (a, b, quotient, remainder) in
            [(7, 2, 3, 1), (-7, 2, -4, 1), (7, -2, -4, -1), (-7, -2, 3, -1), (6, 3, 2, 0)]
        {
            let apply = |op| Num::apply(op, Num::Int(a), Num::Int(b)).unwrap();
            assert_eq!(apply(Arithmetic::DivideFloor), Num::Int(quotient), "{a} // {b}");
            assert_eq!(apply(Arithmetic::Remainder), Num::Int(remainder), "{a} % {b}");
        }
    }

    #[test]
    fn results_never_wrap_and_are_never_infinite() {
        let int = |n: u64| Num::Int(i128::from(n));
        for (op, a, b) in [
            (Arithmetic::Add, int(u64::MAX), int(1)),
            (Arithmetic::Multiply, int(u64::MAX), int(u64::MAX)),
            (Arithmetic::Power, int(2), int(64)),
            (Arithmetic::Power, int(2), int(u64::MAX)),
            (Arithmetic::Multiply, Num::Float(1e308), Num::Float(10.0)),
            (Arithmetic::Divide, int(1), int(0)),
            (Arithmetic::Remainder, Num::Float(1.0), Num::Float(0.0)),
            (Arithmetic::Power, int(0), Num::Int(-1)),
        ] {
            assert!(Num::apply(op, a, b).is_err(), "{op:?} {a:?} {b:?}");
        }
        assert_eq!(Num::apply(Arithmetic::Power, int(2), int(63)), Ok(int(1 << 63)));
    }
}
