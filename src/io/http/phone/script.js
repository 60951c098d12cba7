
"use strict";

// The telephone: one call at a time to POST /whip/{route} (RFC 9725), with what happens in it read from a data channel.
// Top to bottom: what is said when something fails, the call, the page. Nothing here outlives the tab, but for the token,
// which is kept until the tab is closed.

const settings = JSON.parse(document.documentElement.dataset.settings);
const element = (id) => document.getElementById(id);

/// How long the gateway may take to answer the offer. It answers at once or not at all.
const ANSWER_MS = 10_000;
/// How long ICE and DTLS may take; after as long the gateway gives up too.
const CONNECT_MS = 10_000;
/// How long a connection that broke may stay so. The gateway notices a caller who is gone after about 30 s.
const LOST_MS = 25_000;
/// How often to try again meanwhile.
const RESTART_MS = 4_000;
/// How long the connection outlives the call, at most, so that the goodbye overtakes its end.
const GOODBYE_MS = 1_000;
/// How long a call that the gateway has ended may still be heard, for the browser holds some of the last word in its jitter
/// buffer. The gateway keeps the connection for 500 ms.
const LAST_WORD_MS = 400;
/// RFC 4733 asks for 40 ms at least; some gateways want more. The gap lets equal keys be told apart.
const KEY_MS = 120;
const KEY_GAP_MS = 70;

/// Lines of the transcript, so that a call of hours does not grow without end.
const MAX_LINES = 500;

const TOKEN = "tandem.token";

// ------------------------------------------------------------------------------------------------- What is said of failures

/// Why there is no call, in words for the caller. `field` is where it can be put right.
class Failure extends Error {
  constructor(words, field = null) {
    super(words);
    this.field = field;
  }
}

/// Why a call ended, by the reason that the gateway gives: the status, and more where that does not say enough.
const ENDINGS = {
  caller_hung_up: ["You hung up"],
  agent_ended: ["The agent ended the call"],
  transferred: ["The call was handed over"],
  no_input: ["Call ended", "Nothing was heard from you for too long. Is the microphone muted?"],
  backend_failed: ["Call ended", "The agent’s service failed. Please call again."],
  leg_lost: ["Connection lost", "The connection to the gateway was lost."],
  consent_lost: ["Connection lost", "The gateway heard nothing from this browser for too long."],
  protocol_error: ["Call ended", "The gateway did not understand this browser."],
  duration_limit: ["Call ended", "The call has reached the greatest length that the gateway allows."],
  operator: ["Call ended", "An operator ended the call."],
  drained: ["Call ended", "The gateway is shutting down. Please call again in a moment."],
  internal_error: ["Call ended", "The gateway made a mistake and ended the call. Please call again."],
};

function microphoneFailure(error) {
  switch (error.name) {
    case "NotAllowedError":
    case "SecurityError":
      return new Failure("The microphone is not allowed. Allow it for this page in the browser’s settings, then call again.");
    case "NotFoundError":
    case "OverconstrainedError":
      return new Failure("There is no microphone. Connect one, then call again.");
    case "NotReadableError":
    case "AbortError":
      return new Failure("The microphone cannot be opened. Another program may be using it.");
    default:
      return new Failure(`The microphone cannot be opened (${error.name}).`);
  }
}

function unreachable() {
  return new Failure(
    navigator.onLine ? "The gateway cannot be reached." : "This device is offline. Connect it to a network, then call again.",
  );
}

/// What a refusal of the offer means. Its body is problem+json.
async function refusal(response, call) {
  const problem = await response.json().catch(() => ({}));
  const detail = typeof problem.detail === "string" ? ` (${problem.detail})` : "";
  switch (response.status) {
    case 401:
      return new Failure(
        call.token ? "The gateway does not know this token." : "The gateway wants a token for this call.",
        "token",
      );
    case 403:
      return new Failure(`This token is not for the route “${call.route}”.`, "token");
    case 404:
      return new Failure(`There is no route “${call.route}” here.`, settings.whip_routes.length ? "route" : "route-name");
    case 406:
      return new Failure(`This browser and the gateway have no kind of sound in common${detail}.`);
    case 422:
      return new Failure(`The gateway cannot take this browser’s kind of call${detail}.`);
    case 503: {
      const why =
        problem.reason === "draining" ? "The gateway is shutting down and takes no new calls." : "All lines are busy.";
      return new Failure(`${why} ${when(response.headers.get("Retry-After"))}`);
    }
    default:
      return new Failure(`The gateway refused the call with status ${response.status}${detail}.`);
  }
}

/// A Retry-After in words; it is in seconds (RFC 9110 §10.2.3 knows dates too, which this gateway does not send).
function when(seconds) {
  const wait = Number.parseInt(seconds, 10);
  if (!(wait > 0)) return "Please try again later.";
  return wait === 1 ? "Please try again in a second." : `Please try again in ${wait} seconds.`;
}

// ------------------------------------------------------------------------------------------------------------------ A call

/// One call, from the moment the button is pressed. It ends once, by `end`, whatever happens.
class Call {
  constructor(route, token) {
    this.route = route;
    this.token = token;
    this.over = false;
    this.began = null;
    this.session = null;
    /// Whether the gateway has ended it, after a last word.
    this.fades = false;
    this.timers = new Set();
  }

  /// Opens the microphone and calls. Every wait may find that the caller has hung up meanwhile.
  async start() {
    try {
      await this.openMicrophone();
      if (this.over) return;
      this.openConnection();
      const offer = await this.connection.createOffer();
      if (this.over) return;
      const answer = await this.post(offer.sdp);
      if (this.over) {
        this.sayGoodbye();
        return;
      }
      await this.connection.setLocalDescription(offer);
      if (this.over) return;
      await this.connection.setRemoteDescription({ type: "answer", sdp: answer });
      if (this.over) return;
      this.after(CONNECT_MS, () => {
        if (this.began === null) this.fail(new Failure("The gateway answers, but no sound gets through. A firewall may be in the way."));
      });
    } catch (error) {
      this.fail(error instanceof Failure ? error : new Failure(`This browser cannot make the call (${error.message}).`));
    }
  }

  async openMicrophone() {
    if (!window.isSecureContext) {
      throw new Failure("Browsers open the microphone only for pages that come by https, or from this machine.");
    }
    if (!window.RTCPeerConnection || !navigator.mediaDevices) throw new Failure("This browser cannot make calls.");
    const wanted = { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 };
    const stream = await navigator.mediaDevices.getUserMedia({ audio: wanted }).catch((error) => {
      throw microphoneFailure(error);
    });
    this.microphone = stream;
    // Asking takes as long as the caller likes.
    if (this.over) this.release();
    stream.getAudioTracks()[0].addEventListener("ended", () => {
      if (!this.over) showProblem("The microphone is gone. You can still hear the agent.");
    });
  }

  openConnection() {
    const connection = new RTCPeerConnection({ bundlePolicy: "max-bundle" });
    this.connection = connection;
    this.sender = connection.addTrack(this.microphone.getAudioTracks()[0], this.microphone);
    connection.addEventListener("track", ({ track, streams }) => {
      if (track.kind === "audio") hearAgent(this, streams[0] ?? new MediaStream([track]));
    });
    connection.addEventListener("connectionstatechange", () => this.follow(connection.connectionState));
    // ICE tells of trouble sooner than the connection as a whole.
    connection.addEventListener("iceconnectionstatechange", () => {
      if (connection.iceConnectionState === "disconnected") this.follow("disconnected");
      else this.follow(connection.connectionState);
    });

    const channel = connection.createDataChannel("events");
    channel.addEventListener("message", ({ data }) => {
      if (!this.over) tell(this, JSON.parse(data));
    });
    // The last event comes before this; without one, the gateway has gone.
    channel.addEventListener("close", () => this.end("Call ended", "The gateway closed the connection."));
  }

  /// Sends the offer and keeps what is said of the session. Returns the answer.
  ///
  /// The offer is not applied before: gathering then begins with the ICE servers that come with the answer. It holds no
  /// candidates and needs none, since the gateway learns this browser's address from its checks.
  async post(offer) {
    const response = await fetch(`${settings.base_path}/whip/${encodeURIComponent(this.route)}${location.search}`, {
      method: "POST",
      headers: this.headers({ "Content-Type": "application/sdp" }),
      body: offer,
      cache: "no-store",
      signal: AbortSignal.timeout(ANSWER_MS),
    }).catch(() => {
      throw unreachable();
    });
    if (response.status !== 201) throw await refusal(response, this);
    this.session = new URL(response.headers.get("Location"), response.url);
    const answer = await response.text().catch(() => {
      throw unreachable();
    });
    const iceServers = iceServersOf(response.headers.get("Link") ?? "");
    if (iceServers.length && !this.over) this.connection.setConfiguration({ ...this.connection.getConfiguration(), iceServers });
    return answer;
  }

  headers(more = {}) {
    return this.token ? { ...more, Authorization: `Bearer ${this.token}` } : more;
  }

  /// The state of the connection has changed.
  follow(state) {
    if (this.over) return;
    if (state === "connected") {
      if (this.began === null) {
        this.began = Date.now();
        showTalking(this);
      } else if (this.lost) {
        showStatus("Connected");
      }
      this.forget(this.lost);
      this.forget(this.retry);
      this.lost = this.retry = null;
    } else if ((state === "disconnected" || state === "failed") && this.began !== null && !this.lost) {
      showStatus("Reconnecting…");
      this.lost = this.after(LOST_MS, () => {
        this.sayGoodbye();
        this.end(...ENDINGS.leg_lost);
      });
      this.retry = this.every(RESTART_MS, () => this.restart());
      this.restart();
    }
  }

  /// Finds a new way to the gateway, when the old one broke or the network is another: an ICE restart (RFC 9725 §4.3.2). What
  /// fails here is tried again while the connection is lost, and has no effect while it is not.
  async restart() {
    if (this.over || this.restarting || this.began === null || this.session === null) return;
    this.restarting = true;
    const connection = this.connection;
    try {
      await connection.setLocalDescription(await connection.createOffer({ iceRestart: true }));
      const response = await fetch(this.session, {
        method: "PATCH",
        headers: this.headers({ "Content-Type": "application/trickle-ice-sdpfrag", "If-Match": "*" }),
        body: fragmentOf(connection.localDescription.sdp),
        signal: AbortSignal.timeout(RESTART_MS),
      });
      const fragment = await response.text();
      if (this.over) return;
      if (response.status === 404) {
        this.end(...ENDINGS.leg_lost);
      } else if (response.status === 200) {
        const sdp = restartedAnswer(connection.remoteDescription.sdp, fragment);
        await connection.setRemoteDescription({ type: "answer", sdp });
      }
    } catch (error) {
      console.debug("ICE restart:", error.message);
    } finally {
      if (!this.over && connection.signalingState === "have-local-offer") {
        await connection.setLocalDescription({ type: "rollback" }).catch(() => {});
      }
      this.restarting = false;
    }
  }

  mute(muted) {
    for (const track of this.microphone.getAudioTracks()) track.enabled = !muted;
  }

  /// Sends a key as a telephone event (RFC 4733). Returns whether that can be done.
  press(key) {
    const dtmf = this.sender?.dtmf;
    if (!dtmf) return false;
    try {
      // What is being sent would be replaced; it goes on with the new key at its end.
      dtmf.insertDTMF(dtmf.toneBuffer + key, KEY_MS, KEY_GAP_MS);
      return true;
    } catch {
      // Not connected yet, or telephone events were not agreed on. Not every browser can be asked before.
      return false;
    }
  }

  hangUp() {
    this.sayGoodbye();
    this.end(...ENDINGS.caller_hung_up);
  }

  fail(failure) {
    this.sayGoodbye();
    this.end("No call", failure.message, failure.field);
  }

  /// Tells the gateway that the call is over, even from a page that is being left. If that does not arrive, the gateway finds
  /// out by itself.
  sayGoodbye() {
    if (this.session === null) return;
    this.goodbye = fetch(this.session, { method: "DELETE", headers: this.headers(), keepalive: true }).catch(() => {});
    this.session = null;
  }

  /// The one way out. `problem` and `field` as in a `Failure`.
  end(status, problem = null, field = null) {
    if (this.over) return;
    this.over = true;
    if (this.fades) this.fade();
    else this.release();
    showIdle(status, problem, field);
  }

  /// Lets the last word be heard before all is released. The microphone is muted and not yet closed, for with that some devices
  /// change their loudspeaker.
  fade() {
    this.stopTimers();
    this.mute(true);
    fading = this;
    this.after(LAST_WORD_MS, () => this.release());
  }

  release() {
    if (fading === this) fading = null;
    this.stopTimers();
    for (const track of this.microphone?.getTracks() ?? []) track.stop();
    const speaker = element("speaker");
    if (speaker.srcObject === this.sound) speaker.srcObject = null;
    // The goodbye first: a connection that closes on its own looks like a fault.
    const patience = new Promise((resolve) => setTimeout(resolve, GOODBYE_MS));
    Promise.race([this.goodbye, patience]).then(() => this.connection?.close());
  }

  after(milliseconds, then) {
    const timer = setTimeout(then, milliseconds);
    this.timers.add(timer);
    return timer;
  }

  every(milliseconds, then) {
    const timer = setInterval(then, milliseconds);
    this.timers.add(timer);
    return timer;
  }

  stopTimers() {
    for (const timer of this.timers) clearTimeout(timer);
  }

  forget(timer) {
    clearTimeout(timer);
    this.timers.delete(timer);
  }
}

/// The ICE servers in a Link header (RFC 9725 §4.6).
function iceServersOf(header) {
  const servers = [];
  for (const [, urls, rest] of header.matchAll(/<([^>]*)>((?:\s*;\s*[\w-]+\s*=\s*(?:"[^"]*"|[^\s;,]+))*)/g)) {
    const parameters = {};
    for (const [, name, quoted, plain] of rest.matchAll(/([\w-]+)\s*=\s*(?:"([^"]*)"|([^\s;,]+))/g)) {
      parameters[name.toLowerCase()] = quoted ?? plain;
    }
    if (parameters.rel !== "ice-server") continue;
    const { username, credential } = parameters;
    servers.push(username === undefined ? { urls } : { urls, username, credential });
  }
  return servers;
}

/// What a restart tells of our side (RFC 8840 §9, RFC 9725 §4.3.2).
function fragmentOf(sdp) {
  const line = (start) => sdp.split("\r\n").find((each) => each.startsWith(start));
  const lines = ["a=group:BUNDLE", "m=audio", "a=mid:", "a=ice-ufrag:", "a=ice-pwd:"].map(line);
  return lines.filter(Boolean).join("\r\n") + "\r\n";
}

/// The answer after a restart: the one before, with what the gateway's fragment changes.
function restartedAnswer(sdp, fragment) {
  const news = fragment.split(/\r?\n/);
  const changed = ["a=ice-ufrag:", "a=ice-pwd:"].map((start) => [start, news.find((line) => line.startsWith(start))]);
  const candidates = news.filter((line) => line.startsWith("a=candidate:"));
  const lines = [];
  for (const line of sdp.split("\r\n")) {
    if (line.startsWith("a=candidate:") || line.startsWith("a=end-of-candidates")) continue;
    lines.push(changed.find(([start, value]) => value && line.startsWith(start))?.[1] ?? line);
    // All m-lines are bundled with the first, so that its candidates are everybody's.
    if (line.startsWith("a=mid:")) lines.push(...candidates.splice(0));
  }
  return lines.join("\r\n");
}

// ------------------------------------------------------------------------------------------------------- What the call shows

/// What has been shown of the turn: the agent's first words since the caller's last, and a delay that came before them.
const turn = { answer: null, latency: null };

/// Shows one event of the call (the gateway's documentation lists them). Those that the page has no use for are left out.
function tell(call, event) {
  switch (event.type) {
    case "interim":
      showInterim(event.text);
      break;
    case "final":
      showInterim("");
      if (event.text) {
        newTurn();
        say("caller", "You", event.text);
      }
      break;
    case "dtmf":
      showKey(event.digit);
      break;
    case "agent_text":
      if (event.text) {
        const answer = say("agent", "Agent", event.text);
        turn.answer ??= answer;
        if (turn.answer === answer && turn.latency !== null) showLatency(turn.latency);
      }
      break;
    case "turn_latency":
      showLatency(event.latency_ms);
      break;
    case "barge_in": {
      const last = [...element("transcript").querySelectorAll(".agent")].at(-1);
      if (last) mark(last, `interrupted after ${seconds(event.heard_ms)}`);
      break;
    }
    case "payload":
      note("Data from the agent", JSON.stringify(event.payload, null, 2));
      break;
    case "transfer":
      note(event.to ? `The agent connects you to ${event.to}` : "The agent connects you to somebody else");
      break;
    case "transfer_failed":
      note("That did not work; you are back with the agent");
      break;
    case "backend_fault":
      note(`The agent’s service has trouble (${event.fault})`);
      break;
    case "conversation_success":
      note("The conversation has reached its goal");
      break;
    case "missed":
      note("Part of the conversation is missing here");
      break;
    case "ended":
      // The gateway has forgotten the session.
      call.session = null;
      call.fades = true;
      call.end(...(ENDINGS[event.reason] ?? ["Call ended", `The gateway ended the call (${event.reason}).`]));
      break;
  }
}

function newTurn() {
  turn.answer = turn.latency = null;
}

function showInterim(text) {
  const interim = element("interim");
  interim.textContent = text;
  interim.hidden = !text;
  scrollDown();
}

/// Adds what somebody said to the transcript.
function say(who, name, text) {
  const item = document.createElement("li");
  item.className = `said ${who}`;
  const speaker = document.createElement("span");
  speaker.className = "aside";
  speaker.textContent = `${name}: `;
  item.append(speaker, text);
  append(item);
  return item;
}

/// Keys that are pressed one after the other stand together.
function showKey(key) {
  const last = element("transcript").lastElementChild;
  if (last?.classList.contains("keys")) {
    last.append(key);
    scrollDown();
    return;
  }
  newTurn();
  say("caller", "You pressed", key).classList.add("keys");
}

function showLatency(milliseconds) {
  turn.latency = milliseconds;
  if (turn.answer) mark(turn.answer, `after ${seconds(milliseconds)}`);
}

/// Adds a remark to what somebody said.
function mark(item, words) {
  let marks = item.querySelector(".marks");
  if (!marks) {
    marks = document.createElement("span");
    marks.className = "marks";
    item.append(marks);
  }
  const remark = document.createElement("span");
  remark.textContent = words;
  marks.append(" ", remark);
  scrollDown();
}

/// Adds what happened, with `data` to unfold if there is any.
function note(words, data = null) {
  const item = document.createElement("li");
  item.className = "note";
  if (data === null) {
    item.textContent = words;
  } else {
    const details = document.createElement("details");
    const summary = document.createElement("summary");
    const text = document.createElement("pre");
    summary.textContent = words;
    text.textContent = data;
    details.append(summary, text);
    item.append(details);
  }
  append(item);
}

function append(item) {
  const transcript = element("transcript");
  element("hint").hidden = true;
  transcript.append(item);
  if (transcript.childElementCount > MAX_LINES) transcript.firstElementChild.remove();
  scrollDown();
}

function scrollDown() {
  const conversation = element("conversation");
  conversation.scrollTop = conversation.scrollHeight;
}

function seconds(milliseconds) {
  return `${(milliseconds / 1000).toFixed(milliseconds < 10_000 ? 2 : 1)} s`;
}

// ------------------------------------------------------------------------------------------------------ Sound and its levels

/// Plays the agent, and shows how loud each side is.
function hearAgent(call, stream) {
  const speaker = element("speaker");
  call.sound = speaker.srcObject = stream;
  speaker.play().catch(() => {
    if (call.over) return;
    showProblem("The browser holds the sound back. Tap or click anywhere to hear it.");
    document.addEventListener("click", () => speaker.play().then(() => showProblem(null)), { once: true });
  });
  const context = new AudioContext();
  const meters = [
    meter(context, call.microphone, element("level-caller")),
    meter(context, stream, element("level-agent")),
  ];
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  let shown = 0;
  const draw = (now) => {
    // Whoever wants less motion sees the level twice a second, in steps.
    if (call.over || !still.matches || now - shown > 500) {
      shown = now;
      for (const show of meters) show(call.over);
    }
    if (call.over) context.close();
    else requestAnimationFrame(draw);
  };
  requestAnimationFrame(draw);
}

/// A function that shows the loudness of a stream on a bar: nothing at -54 dB, full at -6 dB.
function meter(context, stream, bar) {
  const analyser = new AnalyserNode(context, { fftSize: 1024 });
  context.createMediaStreamSource(stream).connect(analyser);
  const samples = new Float32Array(analyser.fftSize);
  let level = 0;
  return (off) => {
    analyser.getFloatTimeDomainData(samples);
    const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
    const decibels = 10 * Math.log10(power + 1e-10);
    // Up at once, down slowly, so that the eye can follow.
    level = off ? 0 : Math.max(Math.min(1, Math.max(0, (decibels + 54) / 48)), level * 0.88);
    bar.style.transform = `scaleX(${level.toFixed(3)})`;
  };
}

/// Keeps the screen of a phone on during a call: with the screen, some switch the microphone off too.
async function stayAwake(call) {
  const lock = await navigator.wakeLock?.request("screen").catch(() => null);
  if (!lock) return;
  if (call.over) await lock.release();
  else call.wakeLock = lock;
}

// ---------------------------------------------------------------------------------------------------------------- The page

/// The call in progress.
let current = null;
/// The call before, while its last word is heard.
let fading = null;

function showStatus(words) {
  element("status").textContent = words;
}

/// Shows a problem, or none.
function showProblem(words) {
  const problem = element("problem");
  problem.textContent = words ?? "";
  problem.hidden = !words;
}

function showCalling(call) {
  document.body.dataset.state = "calling";
  newTurn();
  showProblem(null);
  showStatus("Calling…");
  showInterim("");
  element("transcript").replaceChildren();
  element("hint").hidden = true;
  element("callee").textContent = call.route;
  element("clock").hidden = true;
  element("dial").hidden = true;
  element("controls").hidden = false;
  element("mute").setAttribute("aria-pressed", "false");
  showKeypad(false);
  // Not on a button: a second press of Enter must not hang up.
  element("phone").focus();
}

function showTalking(call) {
  document.body.dataset.state = "talking";
  showStatus("Connected");
  const clock = element("clock");
  const tick = () => {
    const passed = Math.floor((Date.now() - call.began) / 1000);
    clock.textContent = `${Math.floor(passed / 60)}:${String(passed % 60).padStart(2, "0")}`;
  };
  tick();
  clock.hidden = false;
  call.every(1000, tick);
  stayAwake(call);
}

function showIdle(status, problem, field) {
  const focused = element("phone").contains(document.activeElement);
  current?.wakeLock?.release().catch(() => {});
  current = null;
  document.body.dataset.state = "idle";
  showStatus(status);
  showProblem(problem);
  showInterim("");
  showKeypad(false);
  element("hint").hidden = element("transcript").childElementCount > 0;
  element("controls").hidden = true;
  element("dial").hidden = false;
  if (field === "token") element("token-entry").hidden = false;
  const next = element(field ?? "call");
  // What had the focus may be gone now; whoever reads the conversation stays there.
  if (focused) (next.closest("[hidden]") ? element("call") : next).focus();
}

function showKeypad(open) {
  document.body.dataset.keypad = open ? "open" : "closed";
  element("show-keypad").setAttribute("aria-expanded", String(open));
  scrollDown();
}

function press(key) {
  if (!current?.press(key)) return;
  const button = element("keypad").querySelector(`[data-key="${CSS.escape(key)}"]`);
  button.classList.add("pressed");
  setTimeout(() => button.classList.remove("pressed"), KEY_MS);
}

/// Where the tab's storage is forbidden, the token is asked for again.
function keptToken() {
  try {
    return sessionStorage.getItem(TOKEN) ?? "";
  } catch {
    return "";
  }
}

function keepToken(token) {
  try {
    sessionStorage.setItem(TOKEN, token);
  } catch {
    // As above.
  }
}

/// The route that the address names: `/#support`.
function chosenRoute() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return "";
  }
}

function setUp() {
  const routes = settings.whip_routes;
  const wanted = chosenRoute();
  element("route").append(...routes.map((route) => new Option(route, route, false, route === wanted)));
  element("route-choice").hidden = routes.length < 2;
  element("route-entry").hidden = routes.length > 0;
  element("route-name").disabled = routes.length > 0;
  element("route-name").value = wanted;
  if (routes.length === 1) element("callee").textContent = routes[0];
  element("token-entry").hidden = !settings.asks_token;
  element("token").value = keptToken();

  element("dial").addEventListener("submit", (event) => {
    event.preventDefault();
    if (current) return;
    const route = routes.length ? element("route").value : element("route-name").value.trim();
    const token = element("token").value.trim();
    keepToken(token);
    fading?.release();
    current = new Call(route, token);
    showCalling(current);
    current.start();
  });
  element("hang-up").addEventListener("click", () => current?.hangUp());
  element("mute").addEventListener("click", ({ currentTarget }) => {
    if (!current?.microphone) return;
    const muted = currentTarget.getAttribute("aria-pressed") !== "true";
    currentTarget.setAttribute("aria-pressed", String(muted));
    current.mute(muted);
  });
  element("show-keypad").addEventListener("click", () => showKeypad(document.body.dataset.keypad !== "open"));
  element("keypad").addEventListener("click", ({ target }) => {
    const key = target.closest("button")?.dataset.key;
    if (key) press(key);
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest?.("input, select, textarea");
    const held = event.ctrlKey || event.altKey || event.metaKey || event.repeat;
    if (current && !typing && !held && /^[0-9*#]$/.test(event.key)) {
      event.preventDefault();
      press(event.key);
    }
  });

  window.addEventListener("online", () => current?.restart());
  const network = navigator.connection;
  let kind = network?.type;
  // It also changes when an estimate of its speed does.
  network?.addEventListener?.("change", () => {
    if (network.type !== kind) current?.restart();
    kind = network.type;
  });
  window.addEventListener("pagehide", () => current?.hangUp());
}

setUp();
