use proptest::prelude::*;
use rtc::srtp::context::Context;
use rtc::srtp::protection_profile::ProtectionProfile;

use super::*;

#[test]
fn two_ends_agree_on_keys_crosswise() {
    let mut pair = Pair::new();
    pair.run(|_, _| false);
    let (client, server) = pair.keys().unwrap();
    assert_eq!(client.ours, server.theirs);
    assert_eq!(client.theirs, server.ours);
    assert_ne!(client.ours, client.theirs);
    assert_eq!(client.ours.profile(), SrtpProfile::AeadAes128Gcm);
    assert_eq!(pair.client.deadline(), None);
    assert_eq!(pair.server.deadline(), None);
    assert_eq!(pair.elapsed(), Duration::ZERO);
}

#[test]
fn a_packet_encrypted_with_the_keys_of_one_end_is_read_at_the_other() {
    let mut pair = Pair::new();
    pair.run(|_, _| false);
    let (client, server) = pair.keys().unwrap();
    let mut packet = vec![0x80, 0, 0, 1, 0, 0, 0, 160, 1, 2, 3, 4];
    packet.extend([0x55; 160]);
    for (sender, receiver) in [(client.ours, server.theirs), (server.ours, client.theirs)] {
        let sealed = context(&sender).encrypt_rtp(&packet).unwrap();
        assert_ne!(&sealed[12..172], &packet[12..]);
        assert_eq!(context(&receiver).decrypt_rtp(&sealed).unwrap(), packet);
    }
}

#[test]
fn the_loss_of_any_datagrams_is_made_good() {
    // Ten datagrams is more than a handshake has; every one alone, and every two.
    for first in 0..10 {
        for second in first..10 {
            let mut pair = Pair::new();
            pair.run(|_, number| number == first || number == second);
            let (client, server) = pair
                .keys()
                .unwrap_or_else(|| panic!("without {first} and {second}"));
            assert_eq!(client.ours, server.theirs);
            assert!(
                pair.elapsed() <= Duration::from_millis(1_800),
                "without {first} and {second}: {:?}",
                pair.elapsed()
            );
        }
    }
}

#[test]
fn heavy_random_loss_is_made_good_nearly_always() {
    let mut done = 0;
    for seed in 0..200_u32 {
        let mut state = seed;
        let mut pair = Pair::new();
        pair.run(|_, _| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) % 100 < 20
        });
        done += u32::from(pair.keys().is_some());
    }
    assert!(done >= 196, "{done} of 200");
}

#[test]
fn a_flight_that_comes_twice_does_not_stop_ours_from_being_repeated() {
    // The client's answer to the server's flight is lost, and that flight comes again before the client repeats.
    let mut pair = Pair::new();
    let now = pair.now;
    let deliver = |pair: &mut Pair, from: DtlsRole| {
        let sent = pair.take(from);
        for datagram in &sent {
            pair.give(from, datagram);
        }
        sent
    };
    deliver(&mut pair, DtlsRole::Client);
    deliver(&mut pair, DtlsRole::Server);
    deliver(&mut pair, DtlsRole::Client);
    let server_flight = deliver(&mut pair, DtlsRole::Server);
    assert!(!pair.take(DtlsRole::Client).is_empty());
    pair.now = now + Duration::from_millis(150);
    for datagram in &server_flight {
        pair.give(DtlsRole::Server, datagram);
    }
    // It is answered at once, and later again.
    assert!(!pair.take(DtlsRole::Client).is_empty());
    assert!(pair.client.deadline() < Some(now + Duration::from_secs(2)));
    pair.run(|_, _| false);
    assert!(pair.keys().is_some());
}

#[test]
fn a_server_that_is_done_answers_a_client_that_is_not() {
    let mut pair = Pair::new();
    // The server's last flight is lost.
    let mut done = false;
    pair.run(|from, number| {
        let is_last = from == DtlsRole::Server && number >= 5 && !done;
        done |= is_last;
        is_last
    });
    assert!(done);
    assert!(pair.keys().is_some());
}

#[test]
fn another_certificate_than_the_announced_one_is_refused_by_either_end() {
    for wrong in [DtlsRole::Client, DtlsRole::Server] {
        let (ours, theirs) = (identity(), identity());
        let stranger = identity().fingerprint();
        let now = beginning();
        let (at_client, at_server) = match wrong {
            DtlsRole::Client => (theirs.fingerprint(), stranger),
            DtlsRole::Server => (stranger, ours.fingerprint()),
        };
        let mut pair = Pair::of(
            Handshake::new(DtlsRole::Client, &ours, at_client, now),
            Handshake::new(DtlsRole::Server, &theirs, at_server, now),
            now,
        );
        pair.run(|_, _| false);
        assert_eq!(pair.keys(), None);
        // The end that is deceived says so; the other is refused.
        let (deceived, refused) = match wrong {
            DtlsRole::Client => (pair.server_end, pair.client_end),
            DtlsRole::Server => (pair.client_end, pair.server_end),
        };
        assert_eq!(deceived, Some(Err(HandshakeError::WrongCertificate)));
        assert_eq!(refused, Some(Err(HandshakeError::Refused)));
    }
}

#[test]
fn silence_ends_it_after_ten_seconds_and_some_repeats() {
    let mut pair = Pair::new();
    let mut sent = 0;
    pair.run(|from, _| {
        sent += u32::from(from == DtlsRole::Client);
        true
    });
    assert_eq!(pair.client_end, Some(Err(HandshakeError::TimedOut)));
    assert_eq!(pair.server_end, Some(Err(HandshakeError::TimedOut)));
    assert_eq!(pair.elapsed(), TIME_LIMIT);
    assert_eq!(sent, 1 + REPEATS);
    assert_eq!(
        pair.client.receive(&[22], pair.now),
        Err(HandshakeError::TimedOut)
    );
}

#[test]
fn data_passes_until_either_end_closes() {
    for closing in [DtlsRole::Client, DtlsRole::Server] {
        let mut pair = Pair::new();
        let now = pair.now;
        pair.client.send_data(b"too early", now);
        pair.run(|_, _| false);
        pair.client.send_data(b"hello", now);
        pair.server.send_data(b"welcome", now);
        pair.run(|_, _| false);
        assert_eq!(pair.server.poll_data().as_deref(), Some(&b"hello"[..]));
        assert_eq!(pair.server.poll_data(), None);
        assert_eq!(pair.client.poll_data().as_deref(), Some(&b"welcome"[..]));
        assert!(!pair.client.is_closed() && !pair.server.is_closed());
        match closing {
            DtlsRole::Client => pair.client.close(now),
            DtlsRole::Server => pair.server.close(now),
        }
        pair.run(|_, _| false);
        assert!(pair.client.is_closed() && pair.server.is_closed());
        pair.client.send_data(b"too late", now);
        pair.server.send_data(b"too late", now);
        pair.run(|_, _| false);
        assert_eq!(
            (pair.client.poll_data(), pair.server.poll_data()),
            (None, None)
        );
    }
}

#[test]
fn data_that_nobody_asks_for_is_not_kept() {
    let mut pair = Pair::new();
    pair.run(|_, _| false);
    let now = pair.now;
    for _ in 0..10 * MAX_DATAGRAMS {
        pair.client.send_data(b"hello", now);
        pair.run(|_, _| false);
    }
    let kept = std::iter::from_fn(|| pair.server.poll_data()).count();
    assert_eq!(kept, MAX_WAITING_DATA);
    // Once it is asked for, more comes.
    pair.client.send_data(b"again", now);
    pair.run(|_, _| false);
    assert_eq!(pair.server.poll_data().as_deref(), Some(&b"again"[..]));
}

#[test]
fn a_hello_in_pieces_is_answered_once_it_is_whole() {
    let mut pair = Pair::new();
    // Beyond the numbers of what the client sends afterwards, and not so far that those were too old.
    let mut record = 20;
    let mut verify_requests = 0;
    for _ in 0..2 {
        let hello = pair.take(DtlsRole::Client).remove(0);
        for (n, body) in hello[25..].chunks(30).enumerate() {
            let mut datagram = hello[..25].to_vec();
            record += 1;
            datagram[10] = record;
            datagram[11..13].copy_from_slice(&(12 + body.len() as u16).to_be_bytes());
            datagram[19..22].copy_from_slice(&(30 * n as u32).to_be_bytes()[1..]);
            datagram[22..25].copy_from_slice(&(body.len() as u32).to_be_bytes()[1..]);
            datagram.extend(body);
            pair.give(DtlsRole::Client, &datagram);
        }
        for datagram in pair.take(DtlsRole::Server) {
            verify_requests += u32::from(is_demand_for_cookie(&datagram));
            pair.give(DtlsRole::Server, &datagram);
        }
    }
    assert_eq!(verify_requests, 1);
    pair.run(|_, _| false);
    assert!(pair.keys().is_some());
    assert_eq!(pair.elapsed(), Duration::ZERO);
}

#[test]
fn what_is_not_dtls_is_told_by_its_first_byte() {
    assert!(!is_dtls(&[]));
    assert!(!is_dtls(&[0, 1]));
    assert!(!is_dtls(&[19]) && is_dtls(&[20]) && is_dtls(&[63]) && !is_dtls(&[64]));
    assert!(!is_dtls(&[0x80, 0]));
    let mut pair = Pair::new();
    let hello = pair.take(DtlsRole::Client);
    assert!(hello.iter().all(|datagram| is_dtls(datagram)));
}

#[test]
fn a_flood_is_not_kept() {
    let mut pair = Pair::new();
    let hello = pair.take(DtlsRole::Client).remove(0);
    for _ in 0..10_000 {
        pair.give(DtlsRole::Client, &hello);
    }
    assert!(pair.server.outgoing.len() < 2 * MAX_DATAGRAMS as usize);
    assert_eq!(pair.server.datagrams, MAX_DATAGRAMS);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn garbage_is_dropped_without_an_answer(
        datagrams in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 1..50),
    ) {
        let mut pair = Pair::new();
        pair.take(DtlsRole::Client);
        for datagram in &datagrams {
            prop_assert_eq!(pair.client.receive(datagram, pair.now), Ok(None));
            prop_assert_eq!(pair.server.receive(datagram, pair.now), Ok(None));
        }
        prop_assert!(pair.take(DtlsRole::Client).is_empty());
        prop_assert!(pair.take(DtlsRole::Server).is_empty());
        // And nobody is the worse for it.
        pair.now += FIRST_REPEAT;
        pair.run(|_, _| false);
        prop_assert!(pair.keys().is_some());
    }

    #[test]
    fn damaged_datagrams_never_panic(
        damage in prop::collection::vec((0_usize..12, any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut pair = Pair::new();
        pair.run_through(|number, datagram| {
            for (at, index, byte) in &damage {
                if *at == number {
                    let index = index.index(datagram.len());
                    datagram[index] = *byte;
                }
            }
            true
        });
    }
}

/// A client and a server with a network between them.
struct Pair {
    client: Handshake,
    server: Handshake,
    client_end: Option<Result<Keys, HandshakeError>>,
    server_end: Option<Result<Keys, HandshakeError>>,
    began: Instant,
    now: Instant,
}

impl Pair {
    fn new() -> Self {
        let (ours, theirs, now) = (identity(), identity(), beginning());
        Self::of(
            Handshake::new(DtlsRole::Client, &ours, theirs.fingerprint(), now),
            Handshake::new(DtlsRole::Server, &theirs, ours.fingerprint(), now),
            now,
        )
    }

    fn of(client: Handshake, server: Handshake, now: Instant) -> Self {
        Self {
            client,
            server,
            client_end: None,
            server_end: None,
            began: now,
            now,
        }
    }

    /// Runs until nothing more happens. `is_lost` is asked of each datagram by sender and number.
    fn run(&mut self, mut is_lost: impl FnMut(DtlsRole, usize) -> bool) {
        self.run_each(|from, number, _| !is_lost(from, number));
    }

    /// Runs until nothing more happens; `pass` may change each datagram, and keep it.
    fn run_through(&mut self, mut pass: impl FnMut(usize, &mut Vec<u8>) -> bool) {
        self.run_each(|_, number, datagram| pass(number, datagram));
    }

    fn run_each(&mut self, mut pass: impl FnMut(DtlsRole, usize, &mut Vec<u8>) -> bool) {
        let mut number = 0;
        loop {
            let mut is_quiet = true;
            for from in [DtlsRole::Client, DtlsRole::Server] {
                for datagram in self.take(from) {
                    is_quiet = false;
                    let mut datagram = datagram.to_vec();
                    if pass(from, number, &mut datagram) {
                        self.give(from, &datagram);
                    }
                    number += 1;
                }
            }
            if !is_quiet {
                continue;
            }
            let deadlines = [self.client.deadline(), self.server.deadline()];
            let Some(next) = deadlines.into_iter().flatten().min() else {
                return;
            };
            self.now = self.now.max(next);
            if let Err(error) = self.client.tick(self.now) {
                self.client_end = Some(Err(error));
            }
            if let Err(error) = self.server.tick(self.now) {
                self.server_end = Some(Err(error));
            }
        }
    }

    /// What one end has to send.
    fn take(&mut self, from: DtlsRole) -> Vec<Bytes> {
        let sender = match from {
            DtlsRole::Client => &mut self.client,
            DtlsRole::Server => &mut self.server,
        };
        std::iter::from_fn(|| sender.poll_transmit()).collect()
    }

    /// Lets the other end have it.
    fn give(&mut self, from: DtlsRole, datagram: &[u8]) {
        let (receiver, end) = match from {
            DtlsRole::Client => (&mut self.server, &mut self.server_end),
            DtlsRole::Server => (&mut self.client, &mut self.client_end),
        };
        match receiver.receive(datagram, self.now) {
            Ok(Some(keys)) => {
                assert_eq!(*end, None, "keys come once");
                *end = Some(Ok(keys));
            }
            Ok(None) => {}
            Err(error) => *end = Some(Err(error)),
        }
    }

    /// The keys of client and server.
    fn keys(&self) -> Option<(Keys, Keys)> {
        Some((self.client_end?.ok()?, self.server_end?.ok()?))
    }

    fn elapsed(&self) -> Duration {
        self.now - self.began
    }
}

fn identity() -> Identity {
    Identity::generate().unwrap()
}

fn context(key: &SrtpKey) -> Context {
    let profile = match key.profile() {
        SrtpProfile::AeadAes256Gcm => ProtectionProfile::AeadAes256Gcm,
        SrtpProfile::AeadAes128Gcm => ProtectionProfile::AeadAes128Gcm,
        SrtpProfile::AesCm128HmacSha1_80 => ProtectionProfile::Aes128CmHmacSha1_80,
        SrtpProfile::AesCm128HmacSha1_32 => ProtectionProfile::Aes128CmHmacSha1_32,
    };
    let provider = RingProvider::new();
    Context::new(
        key.key(),
        key.salt(),
        profile,
        None,
        None,
        provider.crypto(),
    )
    .unwrap()
}

#[expect(
    clippy::disallowed_methods,
    reason = "a simulation has to begin somewhere"
)]
fn beginning() -> Instant {
    Instant::now()
}
