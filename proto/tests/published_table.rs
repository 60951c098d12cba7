//! Compares the compiled definitions with the published table of Dialogflow's wire shape, `proto_fields.txt`.
//!
//! Both sides become a map from the name of a fact to its shape, in the table's own spelling. Ours is a subset, so a
//! fact of ours has to stand in the table exactly, and the table may hold more. `check_proto.py` does the same
//! without prost.

use std::collections::BTreeMap;
use std::collections::BTreeSet;

use prost::Message;
use prost_types::DescriptorProto;
use prost_types::EnumDescriptorProto;
use prost_types::FieldDescriptorProto;
use prost_types::FileDescriptorSet;
use prost_types::MethodDescriptorProto;
use prost_types::field_descriptor_proto::Label;
use prost_types::field_descriptor_proto::Type;

const TABLE: &str = include_str!("proto_fields.txt");

/// The packages the table speaks about; `google.rpc` and `google.protobuf` are not in it.
const PACKAGES: &str = "google.cloud.dialogflow.";

/// `field a.b.Message / name` to `7 : string (singular, oneof=-)`, and so on.
type Facts = BTreeMap<String, String>;

#[test]
fn every_definition_of_ours_stands_in_the_published_table() {
    assert_eq!(
        differences(&our_facts(), &table_facts(TABLE)),
        Vec::<String>::new()
    );
}

#[test]
fn both_versions_of_the_sessions_service_are_checked() {
    let ours = our_facts();
    for version in ["v3", "v3beta1"] {
        let package = format!("{PACKAGES}cx.{version}.");
        let count = |kind: &str| {
            ours.keys()
                .filter(|key| key.starts_with(&format!("{kind} {package}")))
                .count()
        };
        assert_eq!(count("rpc"), 6, "{version}");
        assert!(count("field") > 150, "{version}: {} fields", count("field"));
        assert!(
            count("enum") > 40,
            "{version}: {} enum values",
            count("enum")
        );
    }
}

/// A value that is missing would reach the gateway as a bare number, and be handled as unknown.
#[test]
fn every_enum_of_ours_has_all_its_published_values() {
    let ours = our_facts();
    let enum_of = |key: &str| {
        key.strip_prefix("enum ")
            .and_then(|rest| rest.split_once(" / "))
            .map(|(name, _)| name.to_owned())
    };
    let modelled: BTreeSet<String> = ours.keys().filter_map(|key| enum_of(key)).collect();
    let missing: Vec<String> = table_facts(TABLE)
        .into_keys()
        .filter(|key| {
            enum_of(key).is_some_and(|name| modelled.contains(&name)) && !ours.contains_key(key)
        })
        .collect();
    assert_eq!(missing, Vec::<String>::new());
}

/// The two versions are written out twice; this keeps one from getting a field that the other lacks by accident.
#[test]
fn the_two_versions_differ_only_where_google_makes_them_differ() {
    let published = table_facts(TABLE);
    let ours = our_facts();
    let counterpart = |key: &str| match key.contains("cx.v3beta1.") {
        true => key.replace("cx.v3beta1.", "cx.v3."),
        false => key.replace("cx.v3.", "cx.v3beta1."),
    };
    let lopsided: Vec<&String> = ours
        .keys()
        .filter(|key| {
            published.contains_key(&counterpart(key)) && !ours.contains_key(&counterpart(key))
        })
        .collect();
    assert_eq!(lopsided, Vec::<&String>::new());
}

#[test]
fn a_wrong_number_is_reported() {
    assert_reported(
        "QueryInput / dtmf = 7 : google.cloud.dialogflow.cx.v3.DtmfInput (singular, oneof=input)",
        "QueryInput / dtmf = 8 : google.cloud.dialogflow.cx.v3.DtmfInput (singular, oneof=input)",
    );
}

#[test]
fn a_wrong_type_is_reported() {
    assert_reported(
        "DtmfInput / digits = 1 : string (",
        "DtmfInput / digits = 1 : bytes (",
    );
    assert_reported(
        "QueryParameters / webhook_headers = 10 : map<string, string>",
        "QueryParameters / webhook_headers = 10 : map<string, bytes>",
    );
}

#[test]
fn a_wrong_label_is_reported() {
    assert_reported(
        "DtmfInput / digits = 1 : string (singular",
        "DtmfInput / digits = 1 : string (repeated",
    );
    assert_reported(
        "DtmfInput / digits = 1 : string (singular",
        "DtmfInput / digits = 1 : string (optional",
    );
}

#[test]
fn a_wrong_oneof_is_reported() {
    assert_reported(
        "QueryResult / transcript = 12 : string (singular, oneof=query)",
        "QueryResult / transcript = 12 : string (singular, oneof=-)",
    );
}

#[test]
fn a_wrong_enum_value_is_reported() {
    assert_reported(
        "Match.MatchType / NO_INPUT = 5",
        "Match.MatchType / NO_INPUT = 4",
    );
}

#[test]
fn a_wrong_rpc_shape_is_reported() {
    assert_reported(
        "Sessions / StreamingDetectIntent : stream ",
        "Sessions / StreamingDetectIntent : ",
    );
}

#[test]
fn a_name_the_table_does_not_know_is_reported() {
    assert_reported("QueryResult / transcript = 12", "QueryResult / heard = 12");
    assert_reported(
        "empty google.cloud.dialogflow.cx.v3.ResponseMessage.EndInteraction",
        "empty google.cloud.dialogflow.cx.v3.Goodbye",
    );
}

/// Doctors the table's `cx.v3` lines that hold `right`, of which there must be one, and expects the check to name
/// that line and no other.
#[track_caller]
fn assert_reported(right: &str, wrong: &str) {
    let in_v3 =
        |line: &&str| line.contains("google.cloud.dialogflow.cx.v3.") && line.contains(right);
    let lines: Vec<&str> = TABLE.lines().filter(in_v3).collect();
    let [line] = lines[..] else {
        panic!("{right:?} should stand in one line, not in {lines:?}")
    };
    let (key, _) = fact(line);

    let doctored = table_facts(&TABLE.replace(line, &line.replace(right, wrong)));

    let found = differences(&our_facts(), &doctored);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with(&format!("{key}: ")), "{found:?}");
}

fn differences(ours: &Facts, published: &Facts) -> Vec<String> {
    let shape_in_table = |key: &String| published.get(key).map_or("unknown", String::as_str);
    ours.iter()
        .filter(|(key, shape)| published.get(*key) != Some(*shape))
        .map(|(key, shape)| {
            format!(
                "{key}: ours is {shape:?}, published is {:?}",
                shape_in_table(key)
            )
        })
        .collect()
}

fn table_facts(table: &str) -> Facts {
    let is_fact = |line: &&str| !line.is_empty() && !line.starts_with('#');
    table
        .lines()
        .filter(is_fact)
        .map(fact)
        .map(|(key, shape)| (key.to_owned(), shape.to_owned()))
        .collect()
}

/// Splits a line of the table into the name of the fact and its shape.
fn fact(line: &str) -> (&str, &str) {
    let separator = if line.starts_with("rpc ") {
        " : "
    } else {
        " = "
    };
    line.split_once(separator).unwrap_or((line, ""))
}

fn our_facts() -> Facts {
    let set = FileDescriptorSet::decode(tandem_proto::FILE_DESCRIPTOR_SET)
        .expect("the build script encoded this set");
    let mut facts = Facts::new();
    for file in set
        .file
        .iter()
        .filter(|file| file.package().starts_with(PACKAGES))
    {
        for message in &file.message_type {
            add_message(file.package(), message, &mut facts);
        }
        for enumeration in &file.enum_type {
            add_enum(file.package(), enumeration, &mut facts);
        }
        for service in &file.service {
            for method in &service.method {
                facts.insert(
                    format!(
                        "rpc {}.{} / {}",
                        file.package(),
                        service.name(),
                        method.name()
                    ),
                    rpc_shape(method),
                );
            }
        }
    }
    facts
}

fn add_message(scope: &str, message: &DescriptorProto, facts: &mut Facts) {
    let name = format!("{scope}.{}", message.name());
    for field in &message.field {
        facts.insert(
            format!("field {name} / {}", field.name()),
            field_shape(&name, message, field),
        );
    }
    if message.field.is_empty() {
        facts.insert(format!("empty {name}"), String::new());
    }
    for nested in message
        .nested_type
        .iter()
        .filter(|nested| !is_map_entry(nested))
    {
        add_message(&name, nested, facts);
    }
    for enumeration in &message.enum_type {
        add_enum(&name, enumeration, facts);
    }
}

fn add_enum(scope: &str, enumeration: &EnumDescriptorProto, facts: &mut Facts) {
    for value in &enumeration.value {
        facts.insert(
            format!("enum {scope}.{} / {}", enumeration.name(), value.name()),
            value.number().to_string(),
        );
    }
}

fn field_shape(
    message_name: &str,
    message: &DescriptorProto,
    field: &FieldDescriptorProto,
) -> String {
    let map_entry = message.nested_type.iter().find(|nested| {
        is_map_entry(nested) && field.type_name() == format!(".{message_name}.{}", nested.name())
    });
    if let Some(entry) = map_entry {
        let types: Vec<String> = entry.field.iter().map(type_name).collect();
        return format!(
            "{} : map<{}> (map, oneof=-)",
            field.number(),
            types.join(", ")
        );
    }
    let label = match field.label() {
        Label::Repeated => "repeated",
        _ if field.proto3_optional() => "optional",
        _ => "singular",
    };
    // The compiler wraps a proto3 "optional" field in a oneof of its own, which is not meant here.
    let oneof = match field.oneof_index {
        Some(index) if !field.proto3_optional() => {
            message.oneof_decl[usize::try_from(index).expect("an index")].name()
        }
        _ => "-",
    };
    format!(
        "{} : {} ({label}, oneof={oneof})",
        field.number(),
        type_name(field)
    )
}

fn rpc_shape(method: &MethodDescriptorProto) -> String {
    let stream = |streaming: bool| if streaming { "stream " } else { "" };
    format!(
        "{}{} -> {}{}",
        stream(method.client_streaming()),
        method.input_type().trim_start_matches('.'),
        stream(method.server_streaming()),
        method.output_type().trim_start_matches('.'),
    )
}

fn type_name(field: &FieldDescriptorProto) -> String {
    match field.r#type() {
        Type::Message | Type::Enum => field.type_name().trim_start_matches('.').to_owned(),
        scalar => scalar
            .as_str_name()
            .trim_start_matches("TYPE_")
            .to_lowercase(),
    }
}

fn is_map_entry(message: &DescriptorProto) -> bool {
    message
        .options
        .as_ref()
        .is_some_and(prost_types::MessageOptions::map_entry)
}
