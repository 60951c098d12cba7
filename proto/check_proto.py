#!/usr/bin/env python3
"""Compare a compiled FileDescriptorSet with the published table of Dialogflow's wire shape.

    check_proto.py DESCRIPTOR_SET TABLE

Every rpc, field, enum value and empty message of ours must stand in the table exactly as we have it. Facts of the
table that we lack are fine: ours is a subset. Prints each difference and a closing count; exits with 1 if there is any
difference.

The same check as tests/published_table.rs, written a second time without prost and without the protobuf package, so
that an error in either reader shows. The table's grammar is explained at its top.
"""

import sys

OURS = "google.cloud.dialogflow."
# Numbered as in google.protobuf.FieldDescriptorProto.Type, from 1.
SCALARS = ("double float int64 uint64 int32 fixed64 fixed32 bool string group message bytes uint32 enum sfixed32 "
           "sfixed64 sint32 sint64").split()
REPEATED = 3


def varint(data, at):
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def decode(data):
    """One encoded message as {field number: [values]}; a value is an int or bytes."""
    fields, at = {}, 0
    while at < len(data):
        key, at = varint(data, at)
        number, wire_type = key >> 3, key & 7
        if wire_type == 0:
            value, at = varint(data, at)
        elif wire_type == 2:
            size, at = varint(data, at)
            value, at = data[at:at + size], at + size
        elif wire_type in (1, 5):
            size = 8 if wire_type == 1 else 4
            value, at = data[at:at + size], at + size
        else:
            sys.exit(f"wire type {wire_type} at byte {at}: not a descriptor set")
        fields.setdefault(number, []).append(value)
    return fields


def text(message, number):
    return message.get(number, [b""])[0].decode()


def number(message, field):
    return message.get(field, [0])[0]


def children(message, field):
    return [decode(child) for child in message.get(field, [])]


def type_of(field):
    # A named type is written with a leading dot.
    return text(field, 6)[1:] or SCALARS[number(field, 5) - 1]


def field_shape(field, oneofs, maps):
    entry = maps.get(text(field, 6)[1:])
    if entry:
        return f"{number(field, 3)} : map<{', '.join(type_of(part) for part in entry)}> (map, oneof=-)"
    explicit = number(field, 17)  # proto3 "optional", which the compiler wraps in a oneof of its own
    label = "repeated" if number(field, 4) == REPEATED else "optional" if explicit else "singular"
    oneof = oneofs[number(field, 9)] if 9 in field and not explicit else "-"
    return f"{number(field, 3)} : {type_of(field)} ({label}, oneof={oneof})"


def message_facts(scope, message, facts):
    name = f"{scope}.{text(message, 1)}"
    fields, nested, enums = (children(message, at) for at in (2, 3, 4))
    oneofs = [text(oneof, 1) for oneof in children(message, 8)]
    is_map = lambda inner: any(number(options, 7) for options in children(inner, 7))
    maps = {f"{name}.{text(inner, 1)}": children(inner, 2) for inner in nested if is_map(inner)}
    for field in fields:
        facts[f"field {name} / {text(field, 1)}"] = field_shape(field, oneofs, maps)
    if not fields:
        facts[f"empty {name}"] = ""
    for inner in nested:
        if not is_map(inner):
            message_facts(name, inner, facts)
    enum_facts(name, enums, facts)


def enum_facts(scope, enums, facts):
    for enum in enums:
        for value in children(enum, 2):
            facts[f"enum {scope}.{text(enum, 1)} / {text(value, 1)}"] = str(number(value, 2))


def our_facts(descriptor_set):
    facts = {}
    for file in children(decode(descriptor_set), 1):
        package = text(file, 2)
        if not package.startswith(OURS):
            continue
        for message in children(file, 4):
            message_facts(package, message, facts)
        enum_facts(package, children(file, 5), facts)
        for service in children(file, 6):
            for method in children(service, 2):
                up, down = ("stream " if number(method, at) else "" for at in (5, 6))
                facts[f"rpc {package}.{text(service, 1)} / {text(method, 1)}"] = (
                    f"{up}{text(method, 2)[1:]} -> {down}{text(method, 3)[1:]}")
    return facts


def table_facts(lines):
    facts = {}
    for line in lines:
        line = line.strip()
        if line and not line.startswith("#"):
            key, _, shape = line.partition(" : " if line.startswith("rpc ") else " = ")
            facts[key] = shape
    return facts


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    with open(sys.argv[1], "rb") as file:
        ours = our_facts(file.read())
    with open(sys.argv[2], encoding="utf-8") as file:
        published = table_facts(file)
    differences = [f"{key}: ours is {shape or 'empty'!r}, published is {published.get(key, 'unknown')!r}"
                   for key, shape in sorted(ours.items()) if published.get(key) != shape]
    for difference in differences:
        print(difference)
    count = {kind: sum(key.startswith(kind) for key in ours) for kind in ("rpc ", "field ", "enum ")}
    messages = {key.split()[1] for key in ours if key.startswith(("field ", "empty "))}
    print(f"{len(differences)} differences in {count['rpc ']} rpcs, {len(messages)} messages, {count['field ']} fields "
          f"and {count['enum ']} enum values")
    # Nothing to compare is a mistake of the caller, not a pass.
    return 1 if differences or not ours else 0


if __name__ == "__main__":
    sys.exit(main())
