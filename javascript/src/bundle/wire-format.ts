/**
 * Protobuf's wire format, read strictly: only what a serializer writes is accepted.
 *
 * Parsers forgive a lot: a field that occurs twice, of an unknown number, in another wire type or as a group, a varint
 * of more bytes than it needs. What one of them merges or skips another may see, so all of that is refused.
 */

export const VARINT = 0;
export const BYTES = 2;
export const FIXED32 = 5;

const FIXED32_BYTES = 4;
const MORE = 0x80;
// 64 bits, 7 to a byte.
const MAX_VARINT_BYTES = 10;
const MAX_VARINT = 2n ** 64n - 1n;

/** The bytes are not a message that a serializer writes. */
export class WireFormatError extends Error {}

/** The fields of a message that may occur, by number: their wire types, and whether they may occur often. */
export class MessageType {
  readonly wireTypes: ReadonlyMap<number, number>;
  readonly repeated: ReadonlySet<number>;

  constructor(
    readonly name: string,
    wireTypes: Readonly<Record<number, number>>,
    repeated: readonly number[] = [],
  ) {
    this.wireTypes = new Map(Object.entries(wireTypes).map(([number, type]) => [Number(number), type]));
    this.repeated = new Set(repeated);
  }
}

/** A field: its number, its value if it is a varint, and the range of its bytes if it is not. */
export interface Field {
  readonly number: number;
  readonly value: bigint;
  readonly start: number;
  readonly end: number;
}

/** The fields of a message in the order of the file; throws `WireFormatError` if one is not as it should be. */
export function* readFields(content: Uint8Array, message: MessageType, start: number, end: number): Generator<Field> {
  const seen = new Set<number>();
  let position = start;
  while (position < end) {
    const tag = readVarint(content, position, end);
    position = tag.next;
    const number = Number(tag.value >> 3n);
    const wireType = Number(tag.value & 7n);
    if (message.wireTypes.get(number) !== wireType) {
      throw new WireFormatError(`${message.name} has the field ${number} of wire type ${wireType}`);
    }
    if (!message.repeated.has(number)) {
      if (seen.has(number)) {
        throw new WireFormatError(`${message.name} has the field ${number} twice`);
      }
      seen.add(number);
    }
    let value = 0n;
    let size = FIXED32_BYTES;
    if (wireType !== FIXED32) {
      const varint = readVarint(content, position, end);
      position = varint.next;
      value = wireType === VARINT ? varint.value : 0n;
      size = wireType === VARINT ? 0 : Number(varint.value);
    }
    const stop = position + size;
    if (stop > end) {
      throw new WireFormatError(`${message.name} is truncated`);
    }
    yield { number, value, start: position, end: stop };
    position = stop;
  }
}

/** The unsigned integer at a position, and the position behind it. */
function readVarint(content: Uint8Array, position: number, end: number): { value: bigint; next: number } {
  let value = 0n;
  const limit = Math.min(end, position + MAX_VARINT_BYTES);
  for (let place = position; place < limit; place++) {
    const byte = content[place];
    value |= BigInt(byte & ~MORE) << BigInt(7 * (place - position));
    if (byte < MORE) {
      if ((byte === 0 && place > position) || value > MAX_VARINT) {
        break;
      }
      return { value, next: place + 1 };
    }
  }
  throw new WireFormatError("a number is truncated, too large or longer than it needs to be");
}

/** How many varints a packed field has. */
export function countVarints(content: Uint8Array, start: number, end: number): number {
  let count = 0;
  for (let place = start; place < end; place++) {
    if (content[place] < MORE) {
      count++;
    }
  }
  return count;
}
