// Shows a robot while it moves: frames come from the server, controls go to it. Lengths are metres.
"use strict";
(() => {
  const about = JSON.parse(element("about").textContent), scene = about.scene;
  const canvas = element("view");
  const LONGEST_TRAIL = 4000;
  const world = openWorld(scene, canvas, Math.min(about.episode_length + 1, LONGEST_TRAIL));
  if (world === null) return;
  const home = scene.episodes[0].camera;

  // ---- To the server --------------------------------------------------------------------------------------------------
  let waiting = {}, sending = false, ended = false;

  /** Sends controls; those that are asked for while others are under way go together. */
  async function send(controls) {
    if ("place" in controls || "new_goal" in controls) delete waiting.goal;
    if ("goal" in controls || "new_goal" in controls) delete waiting.place;
    Object.assign(waiting, controls);
    if (sending) return;
    sending = true;
    try {
      while (Object.keys(waiting).length) {
        const body = JSON.stringify(waiting);
        waiting = {};
        const answer = await fetch("controls", { method: "POST", headers: { "Content-Type": "application/json" }, body });
        complain(answer.ok ? "" : await answer.text());
      }
    } catch (error) {
      waiting = {};
      if (!ended) complain("The program does not answer.");
    } finally {
      sending = false;
    }
  }

  function complain(text) {
    element("failure").textContent = text;
    element("failure").hidden = !text;
  }

  // ---- From the server ------------------------------------------------------------------------------------------------
  const first = new THREE.Vector3(), second = new THREE.Vector3();
  const firstTurn = new THREE.Quaternion(), secondTurn = new THREE.Quaternion();
  const glide = { from: null, to: null, tendons: [[], []], start: 0, seconds: 0 };
  let frame = null, arrived = 0, interval = about.control_step, points = [], dragged = null;

  function share(now) { // of the way from the poses that were shown to those of the latest frame
    return glide.seconds > 0 ? clamp((now - glide.start) / (1000 * glide.seconds), 0, 1) : 1;
  }

  function between(now) { // the poses that are shown, as numbers
    const part = share(now);
    if (part === 1 || glide.from === null) return glide.to;
    return world.bodies.flatMap((body) => {
      const { x, y, z } = body.position, turn = body.quaternion;
      return [x, y, z, turn.w, turn.x, turn.y, turn.z];
    });
  }

  function read(poses, body, position, turn) {
    const at = 7 * body;
    position.set(poses[at], poses[at + 1], poses[at + 2]);
    turn.set(poses[at + 4], poses[at + 5], poses[at + 6], poses[at + 3]).normalize();
  }

  function take(next) {
    const now = performance.now(), jumps = frame === null || next.episode !== frame.episode || next.step < frame.step;
    interval = clamp(0.8 * interval + 0.2 * (now - arrived) / 1000, 0.01, 0.25);
    arrived = now;
    Object.assign(glide, {
      from: jumps ? null : between(now), to: next.poses, tendons: [jumps ? next.tendons : glide.tendons[1], next.tendons],
      start: now, seconds: jumps ? 0 : interval,
    });
    if (jumps) points = [];
    if (scene.robot_moves && (jumps || next.step !== frame.step)) {
      points.push(new THREE.Vector3(...next.poses.slice(7 * scene.root, 7 * scene.root + 3)));
      if (points.length > LONGEST_TRAIL) points.shift();
      world.layTrail(points);
    }
    if (jumps) middle.set(NaN, NaN, NaN);
    const goalMoves = frame === null || String(frame.goal) !== String(next.goal);
    frame = next;
    if (goalMoves) showGoal();
    showNumbers();
    world.changed = true;
  }

  function listen() {
    const source = new EventSource("frames");
    source.addEventListener("message", (event) => take(JSON.parse(event.data)));
    source.addEventListener("open", () => { element("status").classList.remove("lost"); });
    source.addEventListener("error", () => { if (!ended) lose("no connection"); });
    source.addEventListener("end", (event) => {
      ended = true;
      source.close();
      lose("ended");
      complain(JSON.parse(event.data) || "The program has ended.");
    });
  }

  function lose(text) {
    element("status").classList.add("lost");
    element("status").textContent = text;
    document.body.dataset.connected = "false";
  }

  // ---- Numbers --------------------------------------------------------------------------------------------------------
  const write = (id, text) => { if (element(id).textContent !== text) element(id).textContent = text; };

  function distanceText() {
    if (frame.distance === null) return "not known";
    const unit = about.distance_unit;
    return `${frame.distance.toFixed(2)}${unit === "of the radius" ? " radii" : unit ? ` ${unit}` : ""}`;
  }

  function showNumbers() {
    const { episode, step, paused, success } = frame;
    write("step-number", `${step} / ${about.episode_length}`);
    write("distance", distanceText());
    write("time-at-goal", `${frame.time_at_goal} step${frame.time_at_goal === 1 ? "" : "s"}`);
    write("episodes", about.has_success ? `${frame.reached} of ${frame.ended}` : String(frame.ended));
    write("measured", paused ? "paused" : `${frame.measured.toFixed(2)}×`);
    write("status", about.has_success ? (success ? "at the goal" : "on its way") : `episode ${episode}`);
    element("status").classList.toggle("reached", success);
    element("play").classList.toggle("playing", !paused);
    element("play").setAttribute("aria-label", paused ? "Play" : "Pause");
    if (document.activeElement !== element("speed")) element("speed").value = String(frame.speed);
    element("keep-goal").checked = frame.keep_goal;
    for (const choice of element("actions").querySelectorAll("input")) choice.checked = choice.value === frame.actions;
    Object.assign(document.body.dataset, {
      episode, step, paused, reached: success, actions: frame.actions, goal: frame.goal.join(" "), connected: "true",
    });
  }

  // ---- Drawing --------------------------------------------------------------------------------------------------------
  const middle = new THREE.Vector3(NaN, NaN, NaN);

  function followed(seconds) { // a mean over half a second or so: without the shake of a gait
    const root = world.bodies[scene.root];
    first.copy(root.position);
    first.z += scene.middle;
    if (Number.isNaN(middle.x)) middle.copy(first);
    else middle.lerp(first, 1 - Math.exp(-seconds / 0.4));
    if (middle.distanceToSquared(first) > 1e-8) world.changed = true;
    return middle;
  }

  let drawn = null;
  function show(now = performance.now()) {
    if (frame === null) return;
    const seconds = drawn === null ? 0 : Math.min((now - drawn) / 1000, 0.25), part = share(now);
    drawn = now;
    world.changed = part < 1;
    const from = glide.from ?? glide.to;
    world.bodies.forEach((body, number) => {
      read(from, number, first, firstTurn);
      read(glide.to, number, second, secondTurn);
      body.position.copy(first).lerp(second, part);
      body.quaternion.copy(firstTurn).slerp(secondTurn, part);
    });
    world.layTendons((end, point) => {
      const [old, next] = glide.tendons;
      point.set(...[0, 1, 2].map((axis) => old[3 * end + axis] + part * (next[3 * end + axis] - old[3 * end + axis])));
    });
    world.placeGoal(dragged ?? frame.mark);
    world.placeGhost(frame.ghost);
    world.paintGoal(frame.success ? "--reached" : element("floor").checked ? "--on-map" : "--waiting");
    for (const site of world.sites) site.visible = element("sites").checked;
    world.showTrail(element("trail").checked && scene.robot_moves ? points.length : 0);
    world.draw(element("follow").checked ? followed(seconds) : null);
    const at = frame.mark === null ? null : world.seenAt(world.goal.position);
    Object.assign(document.body.dataset, {
      drawn: Number(document.body.dataset.drawn ?? 0) + 1, goalAt: at === null ? "" : `${Math.round(at.x)} ${Math.round(at.y)}`,
    });
  }

  function tick(now) {
    if (world.changed) show(now);
    requestAnimationFrame(tick);
  }

  // ---- The goal: what a person sets outlives the episode ---------------------------------------------------------------
  const [movesX, movesY, movesZ] = about.mark_axes;
  const movable = movesX || movesY || movesZ;

  /** Returns how many pixels a place of the window is from the goal; not above 0 on the goal itself. */
  function away(event) {
    const radius = scene.goal_radius, mark = new THREE.Vector3(...(dragged ?? frame.mark));
    const seen = world.seenAt(mark), top = world.seenAt(mark.clone().add(new THREE.Vector3(0, 0, scene.flat_goal ? 2.4 * radius : 0)));
    first.setFromMatrixColumn(world.camera.matrix, 0).multiplyScalar(radius).add(mark);
    const edge = world.seenAt(first), size = Math.max(Math.hypot(edge.x - seen.x, edge.y - seen.y), event.pointerType === "touch" ? 28 : 14);
    const along = top.y - seen.y, part = along ? clamp((event.clientY - seen.y) / along, 0, 1) : 0;
    const beside = Math.hypot(event.clientX - seen.x - part * (top.x - seen.x), event.clientY - seen.y - part * along);
    return beside - (part > 0.2 ? 14 : size);
  }

  /** Returns where a pointer drags the goal: on a level plane; straight up with shift; across the view if it has no level. */
  function placeUnder(event, mark, offset) {
    const eye = world.camera.position, ray = world.direction(event.clientX + offset.x, event.clientY + offset.y);
    const level = movesX && movesY && !(event.shiftKey && movesZ);
    const normal = level ? new THREE.Vector3(0, 0, 1) : world.camera.getWorldDirection(new THREE.Vector3());
    const distance = new THREE.Vector3(...mark).sub(eye).dot(normal) / ray.dot(normal);
    if (!(distance > 0 && distance < 30 * scene.far)) return mark;
    const place = eye.clone().addScaledVector(ray, distance);
    if (level) return [place.x, place.y, mark[2]];
    if (event.shiftKey && movesZ) return [mark[0], mark[1], place.z];
    return [movesX ? place.x : mark[0], movesY ? place.y : mark[1], movesZ ? place.z : mark[2]];
  }

  function put(place) {
    dragged = place;
    world.changed = true;
    send({ place, keep_goal: true }).then(() => { if (!holding) dragged = null; });
  }

  let holding = false;
  world.grab = (event) => {
    if (frame === null || frame.mark === null || !movable || away(event) > 0) return null;
    holding = true;
    canvas.focus();
    const seen = world.seenAt(new THREE.Vector3(...frame.mark)), offset = { x: seen.x - event.clientX, y: seen.y - event.clientY };
    let place = frame.mark;
    return (moved) => put(place = placeUnder(moved, place, offset).map((number) => Number(number.toFixed(4))));
  };
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, () => {
      holding = false;
      if (!sending) dragged = null;
    });
  }
  canvas.addEventListener("pointermove", (event) => {
    const over = frame !== null && frame.mark !== null && movable && (holding || (event.buttons === 0 && away(event) <= 0));
    canvas.classList.toggle("over-goal", over);
  });

  /** Moves the goal along the axis of the world that is nearest to a direction of the view. */
  function nudge(right, ahead, up) {
    if (frame === null || frame.mark === null || !movable) return;
    const size = 0.5 * scene.goal_radius, place = [...(dragged ?? frame.mark)];
    first.setFromMatrixColumn(world.camera.matrix, 0);
    const turned = Math.round(Math.atan2(first.y, first.x) / (Math.PI / 2)); // quarter turns of the view's right from x
    const [c, s] = [[1, 0], [0, 1], [-1, 0], [0, -1]][((turned % 4) + 4) % 4];
    if (movesX) place[0] += size * (c * right - s * ahead);
    if (movesY) place[1] += size * (s * right + c * ahead);
    if (movesZ) place[2] += size * (up + (movesX && movesY ? 0 : ahead));
    put(place);
  }

  // Fields: a slider and a number for each entry.
  const fields = about.goal_names.map((name, number) => {
    const entry = document.createElement("div"), label = document.createElement("label");
    const [slider, box] = ["range", "number"].map((type) => Object.assign(document.createElement("input"), { type, step: "any" }));
    const [low, high] = [about.goal_low[number], about.goal_high[number]];
    Object.assign(slider, { min: low, max: high });
    entry.className = "entry";
    label.textContent = name;
    box.id = label.htmlFor = `goal-${number}`;
    slider.setAttribute("aria-label", `${name}, slider`);
    for (const input of [slider, box]) {
      input.addEventListener("input", () => {
        const value = input.value === "" ? NaN : Number(input.value);
        if (frame === null || !Number.isFinite(value)) return;
        (input === slider ? box : slider).value = input === slider ? value.toFixed(3) : value;
        send({ goal: frame.goal.map((old, other) => (other === number ? value : old)), keep_goal: true });
      });
    }
    entry.append(label, slider, box);
    element("fields").append(entry);
    return [slider, box];
  });

  function showGoal() {
    if (element("goal").open) {
      fields.forEach(([slider, box], number) => {
        if (document.activeElement !== slider) slider.value = frame.goal[number];
        if (document.activeElement !== box) box.value = frame.goal[number].toFixed(3);
      });
    }
    loadFloor();
  }
  element("goal").addEventListener("toggle", () => { if (frame !== null) showGoal(); });

  // ---- Numbers on the floor -------------------------------------------------------------------------------------------
  const SHADES = ["#440154", "#482878", "#3e4a89", "#31688e", "#26828e", "#1f9e89", "#35b779", "#6ece58", "#b5de2b", "#fde725"].map(
    (text) => [1, 3, 5].map((at) => parseInt(text.slice(at, at + 2), 16)),
  );
  let carpet = null, loading = false, loadedFor = null;

  function shade(step) { // 0 to 254
    const at = (step / 254) * (SHADES.length - 1), low = Math.min(Math.floor(at), SHADES.length - 2);
    return [0, 1, 2].map((part) => SHADES[low][part] + (at - low) * (SHADES[low + 1][part] - SHADES[low][part]));
  }

  function layCarpet({ rows, columns, pixels }) {
    const picture = document.createElement("canvas"), steps = new Uint8Array(bytes(pixels));
    Object.assign(picture, { width: rows, height: columns }); // x to the right, y up
    const pen = picture.getContext("2d"), image = pen.createImageData(rows, columns);
    for (let row = 0; row < rows; row++) {
      for (let column = 0; column < columns; column++) {
        const step = steps[row * columns + column], at = 4 * ((columns - 1 - column) * rows + row);
        image.data.set([...shade(step === 255 ? 0 : step), step === 255 ? 0 : 255], at);
      }
    }
    pen.putImageData(image, 0, 0);
    const texture = new THREE.CanvasTexture(picture), [cellRows, cellColumns, cell] = scene.maze;
    texture.colorSpace = THREE.SRGBColorSpace;
    if (carpet === null) {
      carpet = new THREE.Mesh(
        new THREE.PlaneGeometry(cellRows * cell, cellColumns * cell),
        new THREE.MeshBasicMaterial({ transparent: true, opacity: 0.8, depthWrite: false, polygonOffset: true, polygonOffsetFactor: -2 }),
      );
      carpet.position.set((cell * (cellRows - 1)) / 2, (cell * (cellColumns - 1)) / 2, scene.floor.position[2] + 0.002 * cell);
      carpet.renderOrder = -1;
      world.stage.add(carpet);
    }
    carpet.material.map?.dispose();
    carpet.material.map = texture;
    carpet.material.needsUpdate = true;
  }

  async function loadFloor() {
    const wanted = element("floor").checked;
    element("legend").hidden = !wanted;
    if (carpet !== null) carpet.visible = wanted;
    world.changed = true;
    if (!wanted || loading || frame === null || loadedFor === String(frame.goal)) return;
    loading = true;
    const goal = String(frame.goal);
    try {
      const answer = await fetch("floor");
      if (answer.ok) layCarpet(await answer.json());
      loadedFor = goal;
      document.body.dataset.floor = goal;
    } catch (error) {
      if (!ended) complain("The program does not answer.");
      return;
    } finally {
      loading = false;
    }
    loadFloor();
  }

  // ---- Controls -------------------------------------------------------------------------------------------------------
  for (const value of ["policy", "zero", "random"].filter((one) => about.actions.includes(one))) {
    const label = document.createElement("label"), choice = document.createElement("input"), text = document.createElement("span");
    Object.assign(choice, { type: "radio", name: "actions", value });
    choice.addEventListener("change", () => send({ actions: value }));
    text.textContent = value[0].toUpperCase() + value.slice(1);
    label.append(choice, text);
    element("actions").append(label);
  }
  const names = { 0.25: "¼×", 0.5: "½×" };
  for (const speed of about.speeds) element("speed").add(new Option(names[speed] ?? `${speed}×`, String(speed)));
  element("speed").addEventListener("change", (event) => send({ speed: Number(event.target.value) }));
  const pause = () => frame !== null && send({ paused: !frame.paused });
  const step = () => send({ steps: 1 });
  const reset = () => send({ reset: true });
  const newGoal = () => send({ new_goal: true });
  function homeView() {
    world.home(home);
    element("follow").checked = home.follow;
    middle.set(NaN, NaN, NaN);
  }
  for (const [id, act] of [["play", pause], ["step", step], ["reset", reset], ["new-goal", newGoal], ["home", homeView]]) {
    element(id).addEventListener("click", act);
  }
  element("keep-goal").addEventListener("change", (event) => send({ keep_goal: event.target.checked }));
  for (const id of ["follow", "trail", "sites"]) element(id).addEventListener("change", () => { world.changed = true; });
  element("floor").addEventListener("change", loadFloor);
  for (const [id, there] of [["follow", scene.robot_moves], ["trail", scene.robot_moves], ["sites", world.sites.length], ["floor", about.floor]]) {
    if (!there) element(id).parentElement.hidden = true;
  }
  element("drag-hint").hidden = !movable;
  document.querySelector(".success").hidden = !about.has_success;
  if (about.has_success) element("episodes-name").textContent = "Reached";

  addEventListener("keydown", (event) => {
    const place = event.target.tagName, typing = ["SELECT", "INPUT", "SUMMARY"].includes(place);
    if (event.ctrlKey || event.metaKey || event.altKey || (typing && event.key !== "Escape")) return;
    const actions = {
      " ": pause, s: step, n: newGoal, r: reset, h: homeView, v: () => about.floor && element("floor").click(),
      f: () => scene.robot_moves && element("follow").click(),
      ArrowLeft: () => nudge(-1, 0, 0), ArrowRight: () => nudge(1, 0, 0), ArrowUp: () => nudge(0, 1, 0), ArrowDown: () => nudge(0, -1, 0),
      PageUp: () => nudge(0, 0, 1), PageDown: () => nudge(0, 0, -1), Escape: () => canvas.focus(),
    };
    const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    event.preventDefault(); // or space would press the focused button as well
    action();
  });
  addEventListener("keyup", (event) => { if (event.key === " " && event.target.tagName === "BUTTON") event.preventDefault(); });

  world.resized = () => show();
  homeView();
  listen();
  requestAnimationFrame(tick);
})();
