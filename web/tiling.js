// Tiles of an image and their blending, as tadisr/tiling.py has them.

/** [start, stop) spans of `tile` that cover `length` with at least `overlap` in common; the last one shifts inward. */
export function windows(length, tile, overlap) {
  if (length <= tile) return [[0, length]];
  const count = Math.ceil((length - overlap) / (tile - overlap));
  return Array.from({length: count}, (_, index) => {
    const start = Math.min(index * (tile - overlap), length - tile);
    return [start, start + tile];
  });
}

/** The share of every window at its pixels, such that all shares of a pixel sum to 1: raised-cosine ramps. */
export function shares(spans, length, overlap) {
  const total = new Float32Array(length);
  const all = spans.map(([start, stop]) => {
    const weights = new Float32Array(stop - start).fill(1);
    for (let i = 0; i < overlap; i++) {
      const ramp = 0.5 - 0.5 * Math.cos((Math.PI * (i + 0.5)) / overlap);
      if (start > 0) weights[i] *= ramp;
      if (stop < length) weights[stop - start - 1 - i] *= ramp;
    }
    weights.forEach((weight, i) => { total[start + i] += weight; });
    return weights;
  });
  spans.forEach(([start], index) => all[index].forEach((weight, i) => { all[index][i] = weight / total[start + i]; }));
  return all;
}

/**
 * Restore an image tile by tile. Only a band of floating-point rows, as high as a tile, is kept.
 *
 * @param pixels RGBA bytes, width * height.
 * @param restore async ({data: Float32Array (3, h, w) in [0, 1], width, height}) to {image (3, 4h, 4w) in [0, 1], mask
 *   (4h, 4w) logits} of the same, `scale` times as large.
 * @param paint called with ({image, mask} bands in floats, first row, rows) when rows are complete; `stride` values
 *   apart per channel.
 * @param progress called with (tiles done, tiles in all).
 */
export async function runTiled(pixels, width, height, {tile, overlap, scale, least}, restore, paint, progress) {
  const [rows, columns] = [windows(height, tile, overlap), windows(width, tile, overlap)];
  const scaled = (spans) => spans.map(([start, stop]) => [start * scale, stop * scale]);
  const rowShares = shares(scaled(rows), height * scale, overlap * scale);
  const columnShares = shares(scaled(columns), width * scale, overlap * scale);
  const outWidth = width * scale;
  const stride = (rows[0][1] - rows[0][0]) * scale * outWidth; // of one channel in the band
  const band = new Float32Array(4 * stride);
  let done = 0;
  for (const [r, [top, bottom]] of rows.entries()) {
    for (const [c, [left, right]] of columns.entries()) {
      const input = crop(pixels, width, top, bottom, left, right, least);
      const {image, mask} = await restore(input);
      const plane = input.width * input.height * scale * scale;
      for (let channel = 0; channel < 4; channel++) {
        const [values, from] = channel < 3 ? [image, channel * plane] : [mask, 0];
        for (let y = 0; y < (bottom - top) * scale; y++) {
          const source = from + y * input.width * scale;
          const target = channel * stride + y * outWidth + left * scale;
          for (let x = 0; x < (right - left) * scale; x++) {
            band[target + x] += values[source + x] * rowShares[r][y] * columnShares[c][x];
          }
        }
      }
      progress(++done, rows.length * columns.length);
    }
    const next = r + 1 < rows.length ? rows[r + 1][0] : bottom; // rows above it are complete
    const complete = (next - top) * scale;
    paint(band, stride, top * scale, complete);
    for (let channel = 0; channel < 4; channel++) {
      const start = channel * stride;
      band.copyWithin(start, start + complete * outWidth, start + stride);
      band.fill(0, start + stride - complete * outWidth, start + stride);
    }
  }
}

/** One tile of RGBA bytes as planes (3, h, w) in [0, 1]; where it is less than `least`, its edge is repeated. */
function crop(pixels, stride, top, bottom, left, right, least) {
  const [height, width] = [Math.max(bottom - top, least), Math.max(right - left, least)];
  const data = new Float32Array(3 * height * width);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = 4 * (Math.min(top + y, bottom - 1) * stride + Math.min(left + x, right - 1));
      for (let channel = 0; channel < 3; channel++) {
        data[(channel * height + y) * width + x] = pixels[at + channel] / 255;
      }
    }
  }
  return {data, width, height};
}
