/// Runs in the page before its own script: records what the page's calls receive and what the policy forbids. It changes
/// nothing of what the page does.
export function eavesdrop() {
  const RATE = 8000;
  const BLOCK = 1024;
  const eavesdropper = { violations: [], connections: [], events: [], blocks: [], received };
  window.eavesdropper = eavesdropper;
  document.addEventListener("securitypolicyviolation", (event) => {
    eavesdropper.violations.push(`${event.violatedDirective}: ${event.blockedURI || event.sample}`);
  });

  const Native = window.RTCPeerConnection;
  window.RTCPeerConnection = class extends Native {
    constructor(...settings) {
      super(...settings);
      eavesdropper.connections.push(this);
      eavesdropper.events = [];
      eavesdropper.blocks = [];
      this.addEventListener("track", ({ track }) => record(track));
    }

    createDataChannel(...settings) {
      const channel = super.createDataChannel(...settings);
      channel.addEventListener("message", ({ data }) => {
        eavesdropper.events.push({ ...JSON.parse(data), sample: eavesdropper.blocks.length * BLOCK });
      });
      return channel;
    }
  };

  /// Keeps the samples of a track. A worklet would have to be loaded, which the page's policy forbids; this old node need not.
  function record(track) {
    const context = new AudioContext({ sampleRate: RATE });
    const source = context.createMediaStreamSource(new MediaStream([track]));
    const tap = context.createScriptProcessor(BLOCK, 1, 1);
    const blocks = eavesdropper.blocks;
    tap.addEventListener("audioprocess", ({ inputBuffer }) => {
      blocks.push(Int16Array.from(inputBuffer.getChannelData(0), (sample) => Math.max(-1, Math.min(1, sample)) * 32767));
    });
    source.connect(tap).connect(context.destination);
    // Whoever is not held on to may be collected with all it hears.
    eavesdropper.tap = { context, source, tap };
  }

  function received() {
    const bytes = eavesdropper.blocks.flatMap((block) => [...new Uint8Array(block.buffer)]);
    let text = "";
    for (let at = 0; at < bytes.length; at += 0x8000) text += String.fromCharCode(...bytes.slice(at, at + 0x8000));
    return { audio: btoa(text), events: eavesdropper.events };
  }
}
