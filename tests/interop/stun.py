"""Checks of ICE (RFC 8445) as STUN messages (RFC 8489), written by hand."""

import hashlib
import hmac
import os
import socket
import struct
import zlib

COOKIE = 0x2112A442
REQUEST, SUCCESS = 0x0001, 0x0101
USERNAME, INTEGRITY, PRIORITY, CONTROLLING, FINGERPRINT = 0x0006, 0x0008, 0x0024, 0x802A, 0x8028


def check(username, password, transaction=None):
    """A binding request, signed."""
    attributes = [
        (USERNAME, username.encode()),
        (PRIORITY, struct.pack("!I", 1845501695)),
        (CONTROLLING, os.urandom(8)),
    ]
    body = b"".join(_attribute(kind, value) for kind, value in attributes)
    transaction = transaction or os.urandom(12)
    signature = hmac.new(password.encode(), _head(len(body) + 24, transaction) + body, hashlib.sha1).digest()
    body += _attribute(INTEGRITY, signature)
    sum_of_all = zlib.crc32(_head(len(body) + 8, transaction) + body) ^ 0x5354554E
    body += _attribute(FINGERPRINT, struct.pack("!I", sum_of_all))
    return _head(len(body), transaction) + body


def _head(length, transaction):
    return struct.pack("!HHI", REQUEST, length, COOKIE) + transaction


def _attribute(kind, value):
    return struct.pack("!HH", kind, len(value)) + value + bytes(-len(value) % 4)


def answers(message, request):
    """Whether this is the success that answers a request."""
    return message[:2] == struct.pack("!H", SUCCESS) and message[4:20] == request[4:20]


def is_answered(port, ufrag, password, theirs="ours", tries=5):
    """Whether the gateway answers a check with these credentials of its own."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
        peer.bind(("127.0.0.1", 0))
        peer.settimeout(0.3)
        for _ in range(tries):
            request = check(f"{ufrag}:{theirs}", password)
            peer.sendto(request, ("127.0.0.1", port))
            try:
                if answers(peer.recv(2048), request):
                    return True
            except TimeoutError:
                continue
    return False
