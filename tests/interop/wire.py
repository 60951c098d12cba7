"""What Google's generated types make of our bytes."""

from google.protobuf.unknown_fields import UnknownFieldSet


def unknown_fields(message):
    """The fields in a message, at any depth, that Google's types do not know: there we have a number or a type wrong."""
    name = message.DESCRIPTOR.full_name
    found = [f"{name} / {field.field_number}" for field in UnknownFieldSet(message)]
    for field, value in message.ListFields():
        for inner in _messages(field, value):
            found += unknown_fields(inner)
    return found


def field_names(message):
    """The names of the fields that a message carries."""
    return [field.name for field, _ in message.ListFields()]


def _messages(field, value):
    """The messages in a field, whether it is one, a list or a map of them."""
    if field.message_type is None:
        return []
    if field.message_type.GetOptions().map_entry:
        inner = [value[key] for key in value]
    elif field.is_repeated:
        inner = list(value)
    else:
        inner = [value]
    return [message for message in inner if hasattr(message, "ListFields")]
