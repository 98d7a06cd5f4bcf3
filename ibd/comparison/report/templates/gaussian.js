// What concepts that are set say of the others: the Gaussian of ibd/models/scbm/gaussian.py, `posterior`, for one image.
const sigmoid = (x) => 1 / (1 + Math.exp(-x));
const softplus = (x) => Math.max(x, 0) + Math.log1p(Math.exp(-Math.abs(x)));
const widening = (variance) => Math.sqrt(1 + Math.PI / 8 * variance);
const dot = (a, b) => a.reduce((sum, value, i) => sum + value * b[i], 0);

// Solve `matrix x = right` for several right-hand sides; the matrix is symmetric and positive definite.
const solve = (matrix, rights) => {
  const size = matrix.length, low = matrix.map((row) => [...row]);
  for (let i = 0; i < size; i++) {
    for (let j = 0; j <= i; j++) {
      let sum = low[i][j];
      for (let k = 0; k < j; k++) sum -= low[i][k] * low[j][k];
      low[i][j] = i === j ? Math.sqrt(sum) : sum / low[j][j];
    }
  }
  return rights.map((right) => {
    const x = [...right];
    for (let i = 0; i < size; i++) {
      for (let k = 0; k < i; k++) x[i] -= low[i][k] * x[k];
      x[i] /= low[i][i];
    }
    for (let i = size - 1; i >= 0; i--) {
      for (let k = i + 1; k < size; k++) x[i] -= low[k][i] * x[k];
      x[i] /= low[i][i];
    }
    return x;
  });
};

// `told` is Map(concept -> truth). Returns the marginal logits of all concepts, those that are told left out.
const marginals = (mean, covariance, told) => {
  const chosen = [...told.keys()], truth = chosen.map((k) => told.get(k)), start = chosen.map((k) => mean[k]);
  const inner = chosen.map((i) => chosen.map((j) => covariance[i][j]));
  const times = (vector) => inner.map((row) => dot(row, vector));
  let weight = start.map(() => 0), shift = start.map(() => 0), root = [], around = [];
  const look = () => {
    const p = start.map((value, i) => sigmoid(value + shift[i]));
    root = p.map((value) => Math.sqrt(value * (1 - value)));
    around = inner.map((row, i) => row.map((value, j) => Number(i === j) + root[i] * value * root[j]));
    return p;
  };
  const likely = (w, s) => start.reduce(
    (sum, value, i) => sum + truth[i] * (value + s[i]) - softplus(value + s[i]) - w[i] * s[i] / 2, 0);
  for (let step = 0; step < 100; step++) {
    const p = look();
    const ahead = p.map((value, i) => root[i] ** 2 * shift[i] + truth[i] - value);
    const [solved] = solve(around, [times(ahead).map((value, i) => root[i] * value)]);
    const wanted = ahead.map((value, i) => value - root[i] * solved[i]), far = times(wanted), before = likely(weight, shift);
    let length = 1, next = wanted, moved = far;
    for (let half = 0; half < 40 && likely(next, moved) < before - 1e-12 * (1 + Math.abs(before)); half++) {
      length /= 2;
      next = weight.map((value, i) => value + length * (wanted[i] - value));
      moved = shift.map((value, i) => value + length * (far[i] - value));
    }
    const still = moved.every((value, i) => Math.abs(value - shift[i]) <= 1e-10 * (1 + Math.abs(value)));
    [weight, shift] = [next, moved];
    if (still) break;
  }
  look();
  const others = mean.map((_, k) => k).filter((k) => !told.has(k));
  const crossed = others.map((k) => chosen.map((i, place) => root[place] * covariance[i][k]));
  const explained = solve(around, crossed);
  return new Map(others.map((k, row) => {
    const there = mean[k] + dot(chosen.map((i) => covariance[k][i]), weight);
    const left = Math.max(0, covariance[k][k] - dot(crossed[row], explained[row]));
    return [k, there / widening(left)];
  }));
};
