import { createSocket } from "node:dgram";
import { once } from "node:events";

/** What a name server of the tests answers for one name; no addresses and no code means that it has none. */
export interface DnsRecord {
  readonly addresses?: readonly string[];
  readonly ttl?: number;
  /** Of RFC 1035: 2 server failure, 3 no such name. */
  readonly code?: number;
}

export interface TestDns extends AsyncDisposable {
  /** ADDRESS:PORT */
  readonly server: string;
  /** Names that were asked for, in order. */
  readonly asked: string[];
}

/** A name server on loopback that answers A questions from a table, and that there is nothing else. */
export async function serveDns(records: ReadonlyMap<string, DnsRecord>): Promise<TestDns> {
  const asked: string[] = [];
  const socket = createSocket("udp4", (query, { port, address }) => {
    const { name, end } = readName(query);
    const isA = query.readUInt16BE(end) === 1;
    if (isA) asked.push(name);
    const { addresses = [], ttl = 60, code = 0 } = records.get(name) ?? { code: 3 };
    const answers = isA && code === 0 ? addresses.map((ip) => answerOf(ip, ttl)) : [];
    const head = Buffer.alloc(12);
    query.copy(head, 0, 0, 2);
    head.writeUInt16BE(0x8180 | code, 2);
    head.writeUInt16BE(1, 4);
    head.writeUInt16BE(answers.length, 6);
    socket.send(Buffer.concat([head, query.subarray(12, end + 4), ...answers]), port, address);
  });
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  return {
    server: `127.0.0.1:${socket.address().port}`,
    asked,
    async [Symbol.asyncDispose]() {
      socket.close();
      await once(socket, "close");
    },
  };
}

function readName(query: Buffer): { name: string; end: number } {
  const labels: string[] = [];
  let at = 12;
  for (let length = query.readUInt8(at); length > 0; length = query.readUInt8(at)) {
    labels.push(query.toString("latin1", at + 1, at + 1 + length));
    at += length + 1;
  }
  return { name: labels.join(".").toLowerCase(), end: at + 1 };
}

/** An A record of the name that was asked for. */
function answerOf(ip: string, ttl: number): Buffer {
  const record = Buffer.alloc(16);
  record.writeUInt16BE(0xc00c, 0);
  record.writeUInt16BE(1, 2);
  record.writeUInt16BE(1, 4);
  record.writeUInt32BE(ttl, 6);
  record.writeUInt16BE(4, 10);
  ip.split(".").forEach((byte, index) => {
    record.writeUInt8(Number(byte), 12 + index);
  });
  return record;
}
