// Drawing the image that the model sees, and a map over it: red speaks for, blue against.
"use strict";

const ibdDraw = (() => {
  const names = IBD_MODEL.names, [height, width] = names.image_size;

  function image(canvas, fitted) {
    canvas.width = width;
    canvas.height = height;
    const pixels = new ImageData(width, height);
    for (let i = 0; i < width * height; i++) {
      for (let channel = 0; channel < 3; channel++) pixels.data[4 * i + channel] = fitted.planes[channel][i];
      pixels.data[4 * i + 3] = 255;
    }
    canvas.getContext("2d").putImageData(pixels, 0, 0);
  }

  // For each pixel of a side: the two cells that it lies between, and how near the second is.
  function between(pixels, cells, offset, stride) {
    return Array.from({ length: pixels }, (_, pixel) => {
      const place = Math.min(Math.max((pixel + 0.5 - offset) / stride, 0), cells - 1), low = Math.floor(place);
      return [low, Math.min(low + 1, cells - 1), place - low];
    });
  }

  // One unit's (h x w) map at the image's size, each cell where it looks.
  function placed(cells, [rows, columns]) {
    const { offset, stride } = names.cells, made = new Float32Array(height * width);
    const down = between(height, rows, offset[0], stride[0]), across = between(width, columns, offset[1], stride[1]);
    down.forEach(([top, bottom, low], y) => across.forEach(([left, right, far], x) => {
      const above = cells[top * columns + left] * (1 - far) + cells[top * columns + right] * far;
      const below = cells[bottom * columns + left] * (1 - far) + cells[bottom * columns + right] * far;
      made[y * width + x] = above * (1 - low) + below * low;
    }));
    return made;
  }

  function heat(canvas, map, opacity) {
    canvas.width = width;
    canvas.height = height;
    if (!map) return;
    let largest = 0;
    for (const value of map) largest = Math.max(largest, Math.abs(value));
    const pixels = new ImageData(width, height);
    for (let i = 0; largest > 0 && i < map.length; i++) {
      const share = map[i] / largest;
      pixels.data.set(share > 0 ? [214, 30, 20] : [20, 80, 220], 4 * i);
      pixels.data[4 * i + 3] = 255 * opacity * Math.abs(share);
    }
    canvas.getContext("2d").putImageData(pixels, 0, 0);
  }

  return { image, placed, heat };
})();
