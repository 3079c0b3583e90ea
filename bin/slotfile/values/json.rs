//! Contents of slots as JSON, and back.
//!
//! Integers are written in full; floats with the fewest digits that read back in the slot's
//! width, or as `"NaN"`, `"Infinity"`, `"-Infinity"`; arrays as nested lists, row-major, as
//! numpy's `tolist` does; bytes in base64.

use std::io::{self, BufReader, Read, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde_json::Value;
use slotfile::{Data, Elements, Scalar, ScalarType, SlotType};

use crate::values::value::{OF_COUNTER, elements, parse, shown, text, unknown, within};

/// Writes the members that every slot has: `"name":...,"type":...,"version":...,"value":...`.
/// Writes piece by piece, since an array as a `serde_json::Value` takes 32 times its size.
pub(crate) fn write_slot(
    out: &mut impl Write,
    name: &str,
    slot_type: &SlotType,
    version: u64,
    data: &Data,
) -> io::Result<()> {
    let (name, type_name) = (string(name), string(&slot_type.to_string()));
    write!(out, r#""name":{name},"type":{type_name},"version":{version},"value":"#)?;
    write_value(out, data, slot_type)
}

fn write_value(out: &mut impl Write, data: &Data, slot_type: &SlotType) -> io::Result<()> {
    match (data, slot_type) {
        (Data::Scalar(x), _) => write!(out, "{}", scalar(*x)),
        (Data::Array(elements), SlotType::Array(_, shape) | SlotType::Buffer(_, shape)) => {
            write_list(out, elements, 0, shape.dims())
        }
        (Data::Text(text), _) => Ok(serde_json::to_writer(out, text)?),
        (Data::Bytes(bytes), _) => {
            write!(out, "\"")?;
            base64::write::EncoderWriter::new(&mut *out, &BASE64).write_all(bytes)?;
            write!(out, "\"")
        }
        _ => write!(out, "null"),
    }
}

/// Writes the elements that `dims` span from this position on; one if there are no `dims`.
fn write_list(
    out: &mut impl Write,
    elements: &Elements,
    at: usize,
    dims: &[usize],
) -> io::Result<()> {
    let Some((first, inner)) = dims.split_first() else {
        let element = elements.get(at).map(scalar);
        return write!(out, "{}", element.as_deref().unwrap_or("null"));
    };
    let step: usize = inner.iter().product();
    for i in 0..*first {
        out.write_all(if i == 0 { b"[" } else { b"," })?;
        write_list(out, elements, at + i * step, inner)?;
    }
    out.write_all(b"]")
}

fn scalar(x: Scalar) -> String {
    match x.to_string().as_str() {
        "nan" => r#""NaN""#.into(),
        "inf" => r#""Infinity""#.into(),
        "-inf" => r#""-Infinity""#.into(),
        // `true`, `18446744073709551615`, `1e16`: Rust's form is JSON's.
        other => other.into(),
    }
}

pub(crate) fn string(text: &str) -> String {
    Value::from(text).to_string()
}

/// The content that this JSON is. An error is a message that says what is wrong with it.
pub(crate) fn read(json: &str, slot_type: &SlotType) -> Result<Data, String> {
    let value = serde_json::from_str(json).map_err(|error| format!("not JSON: {error}"))?;
    content(value, slot_type)
}

/// The same, of what can be read here, up to so many bytes.
pub(crate) fn read_from(
    input: impl Read,
    most: u64,
    slot_type: &SlotType,
) -> io::Result<Result<Data, String>> {
    let mut input = input.take(most);
    match serde_json::from_reader(BufReader::new(&mut input)) {
        Ok(value) => Ok(content(value, slot_type)),
        Err(error) if error.is_io() => Err(error.into()),
        Err(error) if error.is_eof() && input.limit() == 0 => Ok(Err(format!(
            "standard input has more than {most} bytes, which no {slot_type} takes"
        ))),
        Err(error) => Ok(Err(format!("standard input is not JSON: {error}"))),
    }
}

/// The content of a value, or of the object that `get --json` prints.
fn content(value: Value, slot_type: &SlotType) -> Result<Data, String> {
    match value {
        Value::Object(mut object) => {
            let theirs = object.get("type").and_then(Value::as_str).unwrap_or_default();
            if !theirs.is_empty() && theirs != slot_type.to_string() {
                return Err(format!("the object is of type {}, not {slot_type}", shown(theirs)));
            }
            let value = object.remove("value");
            of_value(value.ok_or("the object has no \"value\"")?, slot_type)
        }
        value => of_value(value, slot_type),
    }
}

fn of_value(value: Value, slot_type: &SlotType) -> Result<Data, String> {
    let wanted = |what: &str| format!("{} is not a {what}", shown(&value.to_string()));
    match slot_type {
        SlotType::Value(scalar) => read_scalar(&value, *scalar).map(Data::Scalar),
        SlotType::Array(scalar, shape) | SlotType::Buffer(scalar, shape) => {
            let mut flat = Vec::new();
            flatten(&value, shape.dims(), &mut flat).map_err(|error| {
                format!("{error}; {slot_type} is nested lists of {shape} elements")
            })?;
            let scalars = flat.into_iter().map(|value| read_scalar(value, *scalar));
            elements(*scalar, scalars).map(Data::Array)
        }
        SlotType::Text(capacity) => {
            let string = value.as_str().ok_or_else(|| wanted("string"))?;
            text(string.to_owned(), *capacity)
        }
        SlotType::Bytes(capacity) => {
            let bytes = value.as_str().and_then(|string| BASE64.decode(string).ok());
            let bytes = bytes.ok_or_else(|| wanted("string of base64"))?;
            within(bytes.len(), *capacity)?;
            Ok(Data::Bytes(bytes))
        }
        SlotType::Counter => of_value(value, &OF_COUNTER),
        other => Err(unknown(other)),
    }
}

fn read_scalar(value: &Value, of: ScalarType) -> Result<Scalar, String> {
    let float = matches!(of, ScalarType::F32 | ScalarType::F64);
    match value {
        Value::Number(number) => parse(&number.to_string(), of),
        Value::Bool(bool) => parse(&bool.to_string(), of),
        Value::String(name)
            if float && ["NaN", "Infinity", "-Infinity"].contains(&name.as_str()) =>
        {
            parse(name, of)
        }
        // Without the quotes that a text has in JSON, as `shown` adds its own.
        Value::String(text) => Err(format!("the text {} is not of type {of}", shown(text))),
        other => Err(format!("{} is not of type {of}", shown(&other.to_string()))),
    }
}

/// Collects the scalars of nested lists of exactly these lengths.
fn flatten<'a>(value: &'a Value, dims: &[usize], into: &mut Vec<&'a Value>) -> Result<(), String> {
    let Some((first, inner)) = dims.split_first() else {
        into.push(value);
        return Ok(());
    };
    let list =
        value.as_array().ok_or_else(|| format!("{} is not a list", shown(&value.to_string())))?;
    if list.len() != *first {
        return Err(format!("{first} elements expected in a list, {} given", list.len()));
    }
    list.iter().try_for_each(|item| flatten(item, inner, into))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(json: &str, slot_type: &str) {
        let slot_type: SlotType = slot_type.parse().unwrap();
        let data = read(json, &slot_type).unwrap();
        let mut out = Vec::new();
        write_value(&mut out, &data, &slot_type).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), json);
    }

    #[test]
    fn what_is_written_reads_back() {
        there_and_back("18446744073709551615", "u64");
        there_and_back("-9223372036854775808", "i64");
        there_and_back("-9223372036854775808", "counter");
        there_and_back("0.1", "f32");
        there_and_back("3.4028235e38", "f32");
        there_and_back("-0.0", "f64");
        there_and_back("[\"NaN\",\"Infinity\",\"-Infinity\",1.5]", "f64[4]");
        there_and_back("[[[1,2],[3,4]]]", "i8[1,2,2]");
        there_and_back("[true,false]", "bool[2]");
        there_and_back("\"a\\\"b\\n\\u001b\"", "text[20]");
        there_and_back("\"AP8=\"", "bytes[20]");
    }

    #[test]
    fn an_object_is_its_value() {
        let slot_type: SlotType = "u64".parse().unwrap();
        let object = r#"{"name":"n","type":"u64","version":3,"value":9007199254740993}"#;
        let content = read(object, &slot_type).unwrap();
        assert_eq!(content, read("9007199254740993", &slot_type).unwrap());
        assert!(read(&object.replace("u64", "i64"), &slot_type).unwrap_err().contains("i64"));
        assert_eq!(read(r#"{"value":1}"#, &slot_type), read("1", &slot_type));
    }

    #[test]
    fn the_rest_is_refused() {
        for (json, slot_type) in [
            ("{}", "u8"),
            (r#"{"value":{"value":1}}"#, "u8"),
            (r#"{"value":1,"type":"u16"}"#, "u8"),
            ("300", "u8"),
            ("1.0", "u8"),
            ("\"1\"", "u8"),
            ("18446744073709551616", "u64"),
            ("1e999", "f64"),
            ("1", "bool"),
            ("null", "u8"),
            ("\"nan\"", "f64"),
            ("[1,2]", "u8[3]"),
            ("[1,2,3]", "u8[1,3]"),
            ("[[1],[2,3]]", "u8[2,1]"),
            ("7", "text[3]"),
            ("\"abcd\"", "text[3]"),
            ("\"%\"", "bytes[3]"),
            ("[1", "u8[1]"),
            ("1 2", "u8"),
            ("", "u8"),
        ] {
            assert!(read(json, &slot_type.parse().unwrap()).is_err(), "{json} {slot_type}");
        }
    }
}
