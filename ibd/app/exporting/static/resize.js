// Bringing an image to the model's size as the validation images were: to the bit what ibd.data.fitting makes of it.
// The resizing is PyTorch's, of bytes and with antialiasing: weights of 16 bits, columns first, then rows.
"use strict";

const ibdResize = (() => {
  // Python's round: a half goes to the even number.
  const round = (x) => {
    const low = Math.floor(x), part = x - low;
    return part > 0.5 || (part === 0.5 && low % 2) ? low + 1 : low;
  };

  // For each output position: where its inputs begin, how many these are, and their whole-numbered weights.
  function weights(from, to) {
    const scale = from / to, support = Math.max(scale, 1), most = 2 * Math.ceil(support) + 1;
    const begin = new Int32Array(to), count = new Int32Array(to), exact = new Float64Array(to * most);
    let largest = 0;
    for (let i = 0; i < to; i++) {
      const center = scale * (i + 0.5);
      begin[i] = Math.max(Math.trunc(center - support + 0.5), 0);
      count[i] = Math.min(Math.trunc(center + support + 0.5), from) - begin[i];
      let total = 0;
      for (let j = 0; j < count[i]; j++) {
        const value = Math.max(0, 1 - Math.abs((j + begin[i] - center + 0.5) / support));
        exact[i * most + j] = value;
        total += value;
      }
      for (let j = 0; j < count[i]; j++) {
        exact[i * most + j] /= total;
        largest = Math.max(largest, exact[i * most + j]);
      }
    }
    let bits = 0;
    while (bits < 22 && Math.trunc(0.5 + largest * 2 ** (bits + 1)) < 2 ** 15) bits++;
    return { begin, count, most, bits, whole: Int32Array.from(exact, (value) => Math.trunc(0.5 + value * 2 ** bits)) };
  }

  // Planes of bytes (3 x height x width) with one side resized; `step` is the distance of neighbours along that side.
  function along(plane, from, to, lines, place) {
    const { begin, count, most, bits, whole } = weights(from, to), half = 2 ** (bits - 1), made = new Uint8Array(lines * to);
    for (let line = 0; line < lines; line++) {
      for (let i = 0; i < to; i++) {
        let sum = half;
        for (let j = 0; j < count[i]; j++) sum += whole[i * most + j] * plane[place(line, begin[i] + j, from)];
        made[place(line, i, to)] = Math.min(255, Math.max(0, sum >> bits));
      }
    }
    return made;
  }

  function resized(image, height, width) {
    let { planes, h, w } = image;
    if (w !== width) {
      planes = planes.map((plane) => along(plane, w, width, h, (row, column, side) => row * side + column));
      w = width;
    }
    if (h !== height) {
      planes = planes.map((plane) => along(plane, h, height, w, (column, row) => row * w + column));
      h = height;
    }
    return { planes, h, w };
  }

  function cut(image, top, left, height, width) {
    const planes = image.planes.map((plane) => {
      const part = new Uint8Array(height * width);
      for (let row = 0; row < height; row++) {
        const from = (top + row) * image.w + left;
        part.set(plane.subarray(from, from + width), row * width);
      }
      return part;
    });
    return { planes, h: height, w: width };
  }

  function padded(image, height, width) {
    const across = Math.max(round((image.h * width) / height) - image.w, 0);
    const down = Math.max(round((image.w * height) / width) - image.h, 0);
    const left = Math.floor(across / 2), top = Math.floor(down / 2), w = image.w + across, h = image.h + down;
    const planes = image.planes.map((plane) => {
      const larger = new Uint8Array(h * w);
      for (let row = 0; row < image.h; row++) {
        larger.set(plane.subarray(row * image.w, (row + 1) * image.w), (top + row) * w + left);
      }
      return larger;
    });
    return { planes, h, w };
  }

  function fit(image, [height, width], way) {
    if (image.h === height && image.w === width) return image;
    if (way === "squash") return resized(image, height, width);
    if (way === "pad") return resized(padded(image, height, width), height, width);
    const scale = Math.max(height / image.h, width / image.w);
    const covering = resized(
      image, Math.max(round(image.h * scale), height), Math.max(round(image.w * scale), width)
    );
    return cut(covering, round((covering.h - height) / 2), round((covering.w - width) / 2), height, width);
  }

  // RGBA bytes, as a canvas has them, as three planes.
  function planesOf(rgba, w, h) {
    const planes = [0, 1, 2].map((channel) => {
      const plane = new Uint8Array(w * h);
      for (let i = 0; i < plane.length; i++) plane[i] = rgba[4 * i + channel];
      return plane;
    });
    return { planes, h, w };
  }

  // (3 x H x W) numbers in [0, 1].
  function numbers(image) {
    const size = image.h * image.w, made = new Float32Array(3 * size);
    image.planes.forEach((plane, channel) => {
      for (let i = 0; i < size; i++) made[channel * size + i] = plane[i] / 255;
    });
    return made;
  }

  return { fit, planesOf, numbers };
})();
