// werift as a caller, in a process of its own; `caller.py` tells what is said on its standard input and output.
//
// It sends RTP packets that are ready made (the codecs are Python's business) and spoils them on the way as it is told.
// Argument: a JSON object. `codec` is "opus" or "pcmu"; `address` the loopback address to call from; `heard` the file for the
// packets that come back; `loss`, `duplicates` (shares) and `jitter` (milliseconds) is what happens to packets that are sent;
// `ssrc_change` the seconds after which they have another SSRC; `fragment` the bytes of a DTLS handshake fragment; with
// `noise`, packets that look like RTP are sent before there are keys for them.

import { createWriteStream, readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

const require = createRequire(process.env.WERIFT + "/");
const { RTCPeerConnection, RTCRtpCodecParameters, RtpHeader, usePCMU, useOPUS } = require("werift");

const options = JSON.parse(process.argv[2]);
const EVENTS = { 48000: 110, 8000: 126 };
const NOISE = 50;
const codec = {
  opus: { parameters: useOPUS({ payloadType: 96 }), step: 960, silence: Buffer.from([0xf8, 0xff, 0xfe]) },
  pcmu: { parameters: usePCMU(), step: 160, silence: Buffer.alloc(160, 0xff) },
}[options.codec];

const tell = (words) => process.stdout.write(JSON.stringify(words) + "\n");

// So that what is lost can be lost again.
let seed = options.seed ?? 1;
const chance = () => {
  seed = (seed + 0x6d2b79f5) | 0;
  let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
  t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
  return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
};

// Only on the wire: werift takes what it cuts itself for what it has to sign.
if (options.fragment) {
  const record = process.env.WERIFT + "/node_modules/werift/lib/dtls/src/record";
  const { FragmentedHandshake } = require(record + "/message/fragment.js");
  const builder = require(record + "/builder.js");
  const HANDSHAKE = 22;
  const whole = builder.createPlaintext;
  builder.createPlaintext = (dtls) => (messages, sequence) => {
    const pieces = messages.flatMap((message) => {
      if (message.type !== HANDSHAKE) return [message];
      const chunks = FragmentedHandshake.deSerialize(message.fragment).chunk(options.fragment);
      return chunks.map((chunk) => ({ type: HANDSHAKE, fragment: chunk.serialize() }));
    });
    if (pieces.length === messages.length) return whole(dtls)(messages, sequence);
    tell({ fragments: pieces.length });
    // Each in a record of its own, with a number of its own.
    const records = pieces.map((piece, n) => whole(dtls)([piece], sequence + n)[0]);
    dtls.recordSequenceNumber = sequence + pieces.length - 1;
    return records;
  };
}

const telephoneEvents = (rate) =>
  new RTCRtpCodecParameters({
    mimeType: "audio/telephone-event", clockRate: rate, payloadType: EVENTS[rate], parameters: "0-15",
  });
const peer = new RTCPeerConnection({
  codecs: { audio: [codec.parameters, ...(options.events ?? [48000, 8000]).map(telephoneEvents)] },
  iceServers: [],
  bundlePolicy: "max-bundle",
  iceInterfaceAddresses: { udp4: options.address },
  iceAdditionalHostAddresses: [options.address],
  iceFilterCandidatePair: (pair) => pair.localCandidate.host === options.address,
  iceUseTcp: false,
  iceUseIpv6: false,
});
const transceiver = peer.addTransceiver("audio", { direction: "sendrecv" });
const channel = peer.createDataChannel("events");
channel.onMessage.subscribe((text) => tell({ message: text.toString() }));
channel.stateChanged.subscribe((state) => tell({ channel: state }));
peer.connectionStateChange.subscribe((state) => {
  tell({ state });
  if (state === "connected") setInterval(speak, 5);
});

// Each with its payload type, sequence number, timestamp and length in front (1, 2, 4 and 2 bytes).
const heard = createWriteStream(options.heard);
transceiver.onTrack.subscribe((track) => {
  track.onReceiveRtp.subscribe(({ header, payload }) => {
    const head = Buffer.alloc(9);
    head.writeUInt8(header.payloadType, 0);
    head.writeUInt16BE(header.sequenceNumber, 1);
    head.writeUInt32BE(header.timestamp, 3);
    head.writeUInt16BE(payload.length, 7);
    heard.write(Buffer.concat([head, payload]));
  });
});

// ------------------------------------------------------------------------------------------------------- what is sent

const sent = { packets: 0, lost: 0, duplicates: 0, late: 0, ssrcs: 1 };
const mouth = [];
const keys = [];
let ssrc = transceiver.sender.ssrc;
let sequence = Math.floor(chance() * 32768);
let timestamp = Math.floor(chance() * 2 ** 31);
let start;
let frames = 0;

const send = (payloadType, time, payload, marker = false) => {
  const header = new RtpHeader({ payloadType, sequenceNumber: sequence, timestamp: time >>> 0, ssrc, marker });
  sequence = (sequence + 1) & 0xffff;
  sent.packets += 1;
  if (chance() < (options.loss ?? 0)) {
    sent.lost += 1;
    return;
  }
  const leave = () => transceiver.sender.dtlsTransport.sendRtp(payload, header);
  const later = chance() * (options.jitter ?? 0);
  if (later >= 1) {
    sent.late += 1;
    setTimeout(leave, later);
  } else {
    leave();
  }
  if (chance() < (options.duplicates ?? 0)) {
    sent.duplicates += 1;
    setTimeout(leave, later + 5);
  }
};

// One packet of 20 ms whenever one is due; timers may be late, but the sound may not slow down.
const speak = () => {
  start ??= performance.now();
  while (performance.now() - start >= frames * 20) {
    frames += 1;
    timestamp += codec.step;
    if (options.ssrc_change && frames === options.ssrc_change * 50) {
      ssrc = (ssrc + 0x01020304) >>> 0;
      sequence = Math.floor(chance() * 32768);
      timestamp = Math.floor(chance() * 2 ** 31);
      sent.ssrcs += 1;
    }
    if (keys.length) press();
    else send(codec.parameters.payloadType, timestamp, mouth.shift() ?? codec.silence);
  }
};

// A telephone-event (RFC 4733): an update each 20 ms, the end three times.
const press = () => {
  const key = keys[0];
  key.time ??= timestamp;
  key.count += 1;
  const isLast = key.count >= 6;
  const body = Buffer.alloc(4);
  body.writeUInt8("0123456789*#".indexOf(key.key), 0);
  body.writeUInt8((isLast ? 0x80 : 0) | 10, 1);
  body.writeUInt16BE((Math.min(key.count, 6) * key.rate) / 50, 2);
  if (key.count <= 8) send(EVENTS[key.rate], key.time, body, key.count === 1);
  if (key.count === 14) keys.shift();
};

// ------------------------------------------------------------------------------------------------------------ orders

const obey = async (order) => {
  if (order.answer) {
    await peer.setRemoteDescription({ type: "answer", sdp: order.answer });
  } else if (order.say) {
    const file = readFileSync(order.say);
    for (let at = 0; at < file.length; ) {
      const length = file.readUInt16BE(at);
      mouth.push(file.subarray(at + 2, at + 2 + length));
      at += 2 + length;
    }
  } else if (order.press) {
    for (const key of order.press) keys.push({ key, rate: order.rate, count: 0 });
  } else if (order.close) {
    tell({ sent });
    await peer.close();
    process.exit(0);
  }
};

const makeNoise = (ice) => {
  for (let n = 0; n < NOISE; n += 1) {
    const packet = Buffer.alloc(72, n);
    packet.writeUInt8(0x80, 0);
    packet.writeUInt8(96, 1);
    ice.connection.send(packet).catch(() => {});
  }
  tell({ noise: NOISE });
};

await peer.setLocalDescription(await peer.createOffer());
if (peer.iceGatheringState !== "complete") {
  await new Promise((done) => peer.iceGatheringStateChange.subscribe((state) => state === "complete" && done()));
}
if (options.noise) {
  const ice = transceiver.sender.dtlsTransport.iceTransport;
  ice.onStateChange.subscribe((state) => state === "connected" && makeNoise(ice));
}
tell({ offer: peer.localDescription.sdp });
for await (const line of createInterface({ input: process.stdin })) await obey(JSON.parse(line));
process.exit(0);
