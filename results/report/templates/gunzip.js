// Unpacks gzip (RFC 1951 and 1952) in one go: the browser's own DecompressionStream would let paper come before plots.
const LENGTHS = [3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 19, 23, 27, 31, 35, 43, 51, 59, 67, 83, 99, 115, 131, 163, 195, 227, 258];
const LENGTH_BITS = [0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 5, 0];
const ORDER = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]; // of the lengths of code lengths
const LONGEST = 15; // bits of a code
const FIXED = Array.from({ length: 288 }, (_, symbol) => (symbol < 144 ? 8 : symbol < 256 ? 9 : symbol < 280 ? 7 : 8));

// A canonical Huffman code as a table: the next bits, first bit lowest -> symbol * 16 + how many of them it takes.
function huffman(lengths) {
  const table = new Uint16Array(1 << LONGEST);
  let code = 0;
  for (let length = 1; length <= LONGEST; length += 1) {
    for (let symbol = 0; symbol < lengths.length; symbol += 1) {
      if (lengths[symbol] !== length) continue;
      let turned = 0; // a code comes with its highest bit first
      for (let bit = 0; bit < length; bit += 1) turned |= ((code >> bit) & 1) << (length - 1 - bit);
      for (; turned < table.length; turned += 1 << length) table[turned] = (symbol << 4) | length;
      code += 1;
    }
    code <<= 1;
  }
  return table;
}

function gunzip(packed) {
  const out = new Uint8Array(new DataView(packed.buffer).getUint32(packed.length - 4, true));
  let [read, held, count, written] = [10, 0, 0, 0]; // the header has 10 bytes; `count` bits are held

  function fill(wanted) {
    for (; count < wanted; count += 8) held |= packed[read++] << count;
  }

  function bits(wanted) {
    fill(wanted);
    const value = held & ((1 << wanted) - 1);
    held >>>= wanted;
    count -= wanted;
    return value;
  }

  function symbol(table) {
    fill(LONGEST);
    const found = table[held & ((1 << LONGEST) - 1)];
    bits(found & 15);
    return found >> 4;
  }

  // Lengths of the codes of a block, which are coded themselves.
  function codes() {
    const [literals, distances, few] = [bits(5) + 257, bits(5) + 1, bits(4) + 4];
    const coded = new Array(19).fill(0);
    for (let index = 0; index < few; index += 1) coded[ORDER[index]] = bits(3);
    const [table, lengths] = [huffman(coded), []];
    while (lengths.length < literals + distances) {
      const next = symbol(table);
      if (next < 16) lengths.push(next);
      else if (next === 16) lengths.push(...new Array(3 + bits(2)).fill(lengths.at(-1)));
      else lengths.push(...new Array(next === 17 ? 3 + bits(3) : 11 + bits(7)).fill(0));
    }
    return [huffman(lengths.slice(0, literals)), huffman(lengths.slice(literals))];
  }

  for (let last = 0; !last; ) {
    last = bits(1);
    const kind = bits(2);
    if (kind !== 1 && kind !== 2) throw new Error("a block of plotly.js is not compressed");
    const [literal, distance] = kind === 2 ? codes() : [huffman(FIXED), huffman(new Array(30).fill(5))];
    for (let next = symbol(literal); next !== 256; next = symbol(literal)) {
      if (next < 256) {
        out[written++] = next;
        continue;
      }
      const length = LENGTHS[next - 257] + bits(LENGTH_BITS[next - 257]);
      const far = symbol(distance);
      const extra = far < 4 ? 0 : (far >> 1) - 1;
      const start = written - (far < 4 ? far + 1 : ((2 + (far & 1)) << extra) + 1 + bits(extra));
      for (let from = start; from < start + length; from += 1) out[written++] = out[from];
    }
  }
  return new TextDecoder().decode(out);
}
