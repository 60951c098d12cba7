//! Labels of metrics: enums that know all their variants and what each is called, from one table.

/// Declares an enum without fields, with `ALL` of its variants in their order and the `label` of each. Labels are checked
/// when this is compiled: `snake_case`, and no two alike.
macro_rules! labels {
    (
        $(#[$about:meta])*
        $visible:vis enum $name:ident {
            $($(#[$meaning:meta])* $variant:ident => $label:literal,)+
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        $visible enum $name {
            $($(#[$meaning])* $variant,)+
        }

        impl $name {
            /// Every one, so that each is a series from the start.
            $visible const ALL: [Self; [$($label),+].len()] = [$(Self::$variant),+];

            /// The metric label, which is also the word in logs.
            $visible const fn label(self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)+
                }
            }
        }

        const _: () = $crate::labels::check(&[$($label),+]);
    };
}

/// Panics, at compile time, if there is something wrong with the labels of one enum.
pub(crate) const fn check(labels: &[&str]) {
    let mut at = 0;
    while at < labels.len() {
        assert!(is_snake_case(labels[at]), "a label is not in snake_case");
        let mut before = 0;
        while before < at {
            assert!(
                !is_same(labels[before], labels[at]),
                "a label is there twice"
            );
            before += 1;
        }
        at += 1;
    }
}

const fn is_snake_case(label: &str) -> bool {
    let bytes = label.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if !bytes[at].is_ascii_lowercase() && bytes[at] != b'_' {
            return false;
        }
        at += 1;
    }
    !bytes.is_empty()
}

const fn is_same(one: &str, other: &str) -> bool {
    let (one, other) = (one.as_bytes(), other.as_bytes());
    if one.len() != other.len() {
        return false;
    }
    let mut at = 0;
    while at < one.len() {
        if one[at] != other[at] {
            return false;
        }
        at += 1;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    labels! {
        /// An enum.
        enum Fruit {
            /// One.
            Apple => "apple",
            /// Another.
            BloodOrange => "blood_orange",
        }
    }

    #[test]
    fn an_enum_knows_its_variants_in_their_order_and_what_they_are_called() {
        assert_eq!(Fruit::ALL, [Fruit::Apple, Fruit::BloodOrange]);
        assert_eq!(Fruit::ALL.map(Fruit::label), ["apple", "blood_orange"]);
    }

    #[test]
    #[should_panic(expected = "snake_case")]
    fn a_hyphen_is_no_part_of_a_label() {
        check(&["blood-orange"]);
    }

    #[test]
    #[should_panic(expected = "twice")]
    fn no_two_labels_are_alike() {
        check(&["apple", "pear", "apple"]);
    }
}
