//! The Dialogflow messages and services that a voice gateway reads or writes.
//!
//! **A subset.** Google publishes several thousand fields; a call needs a few hundred. Those were written down from a
//! table of published field numbers, with comments that say what a field means to a gateway. Agent design, data
//! stores, language models, traces and search are left out.
//!
//! **Compatible on the wire.** A field left out is skipped when read and absent when written, which is what protocol
//! buffers do with a field of the future. So leaving out is safe; a wrong number, type or label is not.
//!
//! **Checked.** [`FILE_DESCRIPTOR_SET`] holds what was compiled. `tests/published_table.rs` compares it with the
//! published table in `tests/proto_fields.txt` on every test run, and `check_proto.py` does the same once more in a
//! second language.
//!
//! **Two versions, two modules.** `v3` and `v3beta1` agree on every number they share, but the package name is part
//! of the gRPC path, so each has its own types. `v3` has `ResponseMessage.response_type`; `v3beta1` has the names and
//! latencies of webhooks.
//!
//! Names are those of the definitions in `proto/`: message `A.B` is `a::B`, a oneof `x` of message `A` is the enum
//! `a::X`.

/// Google's package tree, which the generated code refers to by relative path.
#[allow(
    missing_docs,
    unreachable_pub,
    clippy::all,
    rustdoc::all,
    reason = "generated: prost and tonic decide what the code looks like and what in it is documented"
)]
mod google {
    pub mod rpc {
        tonic::include_proto!("google.rpc");
    }

    pub mod cloud {
        pub mod dialogflow {
            pub mod cx {
                pub mod v3 {
                    tonic::include_proto!("google.cloud.dialogflow.cx.v3");
                }

                pub mod v3beta1 {
                    tonic::include_proto!("google.cloud.dialogflow.cx.v3beta1");
                }
            }
        }
    }
}

pub use google::rpc;

/// Conversational Agents (Dialogflow CX).
pub mod cx {
    pub use crate::google::cloud::dialogflow::cx::v3;
    pub use crate::google::cloud::dialogflow::cx::v3beta1;
}

/// Every definition in this crate and those it imports, as an encoded `google.protobuf.FileDescriptorSet` without
/// comments.
pub const FILE_DESCRIPTOR_SET: &[u8] =
    include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.binpb"));
