// A WebSocket server without packages: what comes in goes out. RFC 6455, 5.2.
const { createHash } = require("crypto");
const http = require("http");

const GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const server = http.createServer((_, response) => response.end("no socket"));

function frame(buffer) {
  if (buffer.length < 2) return null;
  let length = buffer[1] & 127;
  let at = 2;
  if (length === 126) {
    if (buffer.length < 4) return null;
    length = buffer.readUInt16BE(2);
    at = 4;
  }
  if (buffer.length < at + 4 + length) return null;
  const mask = buffer.subarray(at, at + 4);
  const data = Buffer.from(buffer.subarray(at + 4, at + 4 + length));
  for (let i = 0; i < length; i++) data[i] ^= mask[i % 4];
  return { opcode: buffer[0] & 15, data, end: at + 4 + length };
}

server.on("upgrade", (request, socket) => {
  const accept = createHash("sha1")
    .update(request.headers["sec-websocket-key"] + GUID)
    .digest("base64");
  socket.write(
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n" +
      `Connection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\n\r\n`,
  );
  let buffer = Buffer.alloc(0);
  socket.on("data", (piece) => {
    buffer = Buffer.concat([buffer, piece]);
    for (let next = frame(buffer); next; next = frame(buffer)) {
      const { opcode, data, end } = next;
      buffer = buffer.subarray(end);
      const head =
        data.length < 126
          ? Buffer.from([128 | opcode, data.length])
          : Buffer.from([128 | opcode, 126, data.length >> 8, data.length & 255]);
      socket.write(Buffer.concat([head, data]));
      if (opcode === 8) socket.end();
    }
  });
  socket.on("error", () => {});
});

server.listen(3000, "0.0.0.0");
