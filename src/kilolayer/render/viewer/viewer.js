// Draws the scene in the page's JSON, and plays it. Lengths are metres, z points up, quaternions come as w, x, y, z.
"use strict";
(() => {
  const element = (id) => document.getElementById(id);
  const scene = JSON.parse(element("scene").textContent);
  const colour = (name) => new THREE.Color(getComputedStyle(document.documentElement).getPropertyValue(name).trim());
  const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

  const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
  for (const episode of scene.episodes) {
    episode.poses = new Int16Array(bytes(episode.poses));
    episode.tendons = new Int16Array(bytes(episode.tendons));
  }
  for (const mesh of scene.meshes) {
    mesh.vertices = new Float32Array(bytes(mesh.vertices));
    mesh.faces = new Uint32Array(bytes(mesh.faces));
  }

  // ---- Poses ----------------------------------------------------------------------------------------------------------
  const UNIT = 1 / 32767;
  const first = new THREE.Vector3(), second = new THREE.Vector3();
  const firstTurn = new THREE.Quaternion(), secondTurn = new THREE.Quaternion();

  function readPose(episode, frame, body, position, turn) {
    const p = episode.poses, at = (frame * scene.bodies + body) * 7;
    position.set(
      scene.origin[0] + scene.scale * p[at], scene.origin[1] + scene.scale * p[at + 1], scene.origin[2] + scene.scale * p[at + 2],
    );
    turn.set(p[at + 4] * UNIT, p[at + 5] * UNIT, p[at + 6] * UNIT, p[at + 3] * UNIT).normalize();
  }

  function pose(episode, time, body, position, turn) {
    const frame = Math.min(Math.floor(time), episode.frames - 1), next = Math.min(frame + 1, episode.frames - 1);
    readPose(episode, frame, body, first, firstTurn);
    readPose(episode, next, body, second, secondTurn);
    position.copy(first).lerp(second, time - frame);
    turn.copy(firstTurn).slerp(secondTurn, time - frame);
  }

  // ---- The world ------------------------------------------------------------------------------------------------------
  const canvas = element("view");
  let renderer;
  try {
    renderer = new THREE.WebGLRenderer({ canvas, antialias: true });
  } catch (error) {
    element("failure").textContent = "This browser cannot draw in 3-D: WebGL is switched off or missing.";
    element("failure").hidden = false;
    return;
  }
  renderer.shadowMap.enabled = true;
  renderer.shadowMap.type = THREE.PCFShadowMap;
  const world = new THREE.Scene();
  const camera = new THREE.PerspectiveCamera(scene.fovy, 1, 0.05, 1000);
  camera.up.set(0, 0, 1);
  const sky = new THREE.HemisphereLight(0xffffff, 0x9aa0a8, 1.7);
  sky.position.set(0, 0, 1);
  const sun = new THREE.DirectionalLight(0xffffff, 2.1);
  sun.castShadow = true;
  sun.shadow.mapSize.set(2048, 2048);
  world.add(sky, sun, sun.target);

  function along(z) { // three's cylinders and capsules stand along y, MuJoCo's along z
    return z.rotateX(Math.PI / 2);
  }

  function meshGeometry({ vertices, faces }) {
    const geometry = new THREE.BufferGeometry();
    geometry.setAttribute("position", new THREE.BufferAttribute(vertices, 3));
    geometry.setIndex(new THREE.BufferAttribute(faces, 1));
    const flat = geometry.toNonIndexed();
    flat.computeVertexNormals();
    return flat;
  }

  function shape(geom) {
    const [a, b, c] = geom.size;
    switch (geom.type) {
      case "sphere": return new THREE.SphereGeometry(a, 32, 20);
      case "ellipsoid": return new THREE.SphereGeometry(1, 32, 20).scale(a, b, c);
      case "capsule": return along(new THREE.CapsuleGeometry(a, 2 * b, 8, 20));
      case "cylinder": return along(new THREE.CylinderGeometry(a, a, 2 * b, 32));
      case "box": return new THREE.BoxGeometry(2 * a, 2 * b, 2 * c);
      case "mesh": return meshGeometry(scene.meshes[geom.mesh]);
      default: throw new Error(`unknown shape ${geom.type}`);
    }
  }

  function paint([red, green, blue, alpha]) {
    return new THREE.MeshStandardMaterial({
      color: new THREE.Color().setRGB(red, green, blue, THREE.SRGBColorSpace),
      roughness: 0.65, transparent: alpha < 1, opacity: alpha,
    });
  }

  function place(geom, material, parents) {
    const mesh = new THREE.Mesh(shape(geom), material);
    mesh.position.set(...geom.position);
    const [w, x, y, z] = geom.quaternion;
    mesh.quaternion.set(x, y, z, w);
    (geom.body < 0 ? world : parents[geom.body]).add(mesh);
    return mesh;
  }

  const bodies = Array.from({ length: scene.bodies }, () => new THREE.Group());
  if (bodies.length) world.add(...bodies);
  for (const geom of scene.geoms) {
    const mesh = place(geom, paint(geom.rgba), bodies);
    mesh.castShadow = geom.rgba[3] === 1;
    mesh.receiveShadow = true;
  }
  const sites = scene.sites.map((site) => place(site, paint(site.rgba), bodies));

  // Tendons: each straight piece is a thin cylinder from one end to the other.
  const rod = new THREE.CylinderGeometry(1, 1, 1, 12), upright = new THREE.Vector3(0, 1, 0);
  const pieces = scene.tendons.map(({ rgba }) => new THREE.Mesh(rod, paint(rgba)));
  if (pieces.length) world.add(...pieces);

  function readPoint(episode, frame, end, point) {
    const at = 3 * (2 * frame * pieces.length + end), p = episode.tendons;
    point.set(...[0, 1, 2].map((axis) => scene.origin[axis] + scene.scale * p[at + axis]));
  }

  function layTendons(episode, time) {
    const frame = Math.min(Math.floor(time), episode.frames - 1), next = Math.min(frame + 1, episode.frames - 1);
    const ends = [new THREE.Vector3(), new THREE.Vector3()];
    pieces.forEach((piece, number) => {
      ends.forEach((end, which) => {
        readPoint(episode, frame, 2 * number + which, end);
        readPoint(episode, next, 2 * number + which, second);
        end.lerp(second, time - frame);
      });
      const length = ends[0].distanceTo(ends[1]), width = scene.tendons[number].width;
      piece.visible = length > 1e-6;
      piece.position.copy(ends[0]).lerp(ends[1], 0.5);
      piece.scale.set(width, Math.max(length, 1e-6), width);
      piece.quaternion.setFromUnitVectors(upright, ends[1].sub(ends[0]).normalize());
    });
  }

  const tiles = document.createElement("canvas");
  tiles.width = tiles.height = 256;
  const floorTexture = new THREE.CanvasTexture(tiles);
  floorTexture.wrapS = floorTexture.wrapT = THREE.RepeatWrapping;
  floorTexture.colorSpace = THREE.SRGBColorSpace;
  floorTexture.anisotropy = 8;
  floorTexture.repeat.set(scene.floor.size / scene.floor.tile / 2, scene.floor.size / scene.floor.tile / 2);
  const floor = new THREE.Mesh(
    new THREE.PlaneGeometry(scene.floor.size, scene.floor.size),
    new THREE.MeshStandardMaterial({ map: floorTexture, roughness: 1 }),
  );
  floor.position.set(...scene.floor.position);
  floor.receiveShadow = true;
  world.add(floor);

  // The goal: a disc with a beam on the ground, or a ball with a core.
  const goal = new THREE.Group();
  const goalMaterials = [0.5, 0.9].map(
    (opacity) => new THREE.MeshBasicMaterial({ transparent: true, opacity, depthWrite: opacity > 0.8 }),
  );
  const radius = scene.goal_radius;
  if (scene.flat_goal) {
    const disc = new THREE.Mesh(along(new THREE.CylinderGeometry(radius, radius, 0.06 * radius, 48)), goalMaterials[0]);
    const beam = new THREE.Mesh(along(new THREE.CylinderGeometry(0.07 * radius, 0.07 * radius, 2.4 * radius, 16)), goalMaterials[1]);
    disc.position.z = 0.035 * radius;
    beam.position.z = 1.2 * radius;
    goal.add(disc, beam);
  } else {
    goal.add(
      new THREE.Mesh(new THREE.SphereGeometry(radius, 32, 20), goalMaterials[0]),
      new THREE.Mesh(new THREE.SphereGeometry(0.2 * radius, 24, 16), goalMaterials[1]),
    );
    goalMaterials[0].opacity = 0.35;
  }
  world.add(goal);

  // The ghost: the robot as the goal has it.
  const ghostMaterial = new THREE.MeshBasicMaterial({ transparent: true, opacity: 0.35, depthWrite: false });
  goalMaterials.push(ghostMaterial);
  const ghosts = [];
  for (const geom of scene.ghost) {
    ghosts[geom.body] ??= new THREE.Group();
    place(geom, ghostMaterial, ghosts);
  }
  ghosts.forEach((ghost) => world.add(ghost));

  function placeGhost(episode, frame) {
    const poses = episode.ghost[Math.min(frame, episode.ghost.length - 1)] ?? [];
    ghosts.forEach((ghost, number) => {
      const pose = poses[number];
      ghost.visible = Boolean(pose);
      if (!pose) return;
      const [x, y, z, w, i, j, k] = pose;
      ghost.position.set(x, y, z);
      ghost.quaternion.set(i, j, k, w).normalize();
    });
  }

  // The trail: where the robot's base has been, as a ribbon just above the ground.
  const longest = Math.max(...scene.episodes.map((episode) => episode.frames));
  const trailGeometry = new THREE.BufferGeometry();
  trailGeometry.setAttribute("position", new THREE.BufferAttribute(new Float32Array(6 * longest), 3));
  const corners = [];
  for (let i = 0; i + 1 < longest; i++) corners.push(2 * i, 2 * i + 1, 2 * i + 2, 2 * i + 1, 2 * i + 3, 2 * i + 2);
  trailGeometry.setIndex(corners);
  const trailMaterial = new THREE.MeshBasicMaterial({ side: THREE.DoubleSide, transparent: true, opacity: 0.75 });
  const trail = new THREE.Mesh(trailGeometry, trailMaterial);
  trail.frustumCulled = false;
  world.add(trail);

  function layTrail(episode) {
    const half = 0.05 * scene.robot_radius, places = trailGeometry.getAttribute("position");
    const points = Array.from({ length: episode.frames }, (_, frame) => {
      readPose(episode, frame, scene.root, first, firstTurn);
      return first.clone();
    });
    let x = 1, y = 0;
    points.forEach((point, i) => {
      const before = points[Math.max(i - 2, 0)], after = points[Math.min(i + 2, points.length - 1)];
      const dx = after.x - before.x, dy = after.y - before.y, length = Math.hypot(dx, dy);
      if (length > 1e-4) [x, y] = [dx / length, dy / length];
      const z = scene.floor.position[2] + 0.012 * scene.robot_radius;
      places.setXYZ(2 * i, point.x - half * y, point.y + half * x, z);
      places.setXYZ(2 * i + 1, point.x + half * y, point.y - half * x, z);
    });
    places.needsUpdate = true;
  }

  function applyTheme() {
    const ground = colour("--ground"), dark = matchMedia("(prefers-color-scheme: dark)").matches;
    world.background = ground;
    world.fog = new THREE.Fog(ground, 1, 10);
    const pen = tiles.getContext("2d");
    const [even, odd] = dark ? ["#2a2f37", "#22262d"] : ["#d9dee5", "#cbd2da"];
    for (const [i, j] of [[0, 0], [0, 1], [1, 0], [1, 1]]) {
      pen.fillStyle = i === j ? even : odd;
      pen.fillRect(128 * i, 128 * j, 128, 128);
    }
    floorTexture.needsUpdate = true;
    sky.intensity = dark ? 1.2 : 1.7;
    trailMaterial.color = colour("--blue");
    changed = true;
  }

  // ---- Camera: drag turns, right drag or two fingers move, wheel or pinch goes nearer ---------------------------------------
  const orbit = {};
  const centre = new THREE.Vector3(), lookat = new THREE.Vector3(), pan = new THREE.Vector3();

  function homeView() {
    const home = player.episode.camera;
    Object.assign(orbit, { azimuth: home.azimuth, elevation: home.elevation, distance: home.distance });
    centre.set(...home.lookat);
    pan.set(0, 0, 0);
    element("follow").checked = home.follow;
    changed = true;
  }

  function placeCamera() {
    if (element("follow").checked) { // as a mean over a second or so: without the shake of a gait
      lookat.set(0, 0, 0);
      const position = new THREE.Vector3(), reach = 0.6 / scene.step, count = 9;
      for (let i = 0; i < count; i++) {
        const time = clamp(player.time + reach * (i / (count - 1) - 0.5) * 2, 0, player.episode.frames - 1);
        pose(player.episode, time, scene.root, position, firstTurn.clone());
        lookat.addScaledVector(position, 1 / count);
      }
      lookat.z += scene.middle;
      centre.copy(lookat);
    } else {
      lookat.copy(centre);
    }
    lookat.add(pan);
    const aspect = canvas.clientWidth / Math.max(canvas.clientHeight, 1);
    const distance = orbit.distance * Math.max(1, 4 / 3 / aspect); // a narrow window needs to stand farther off
    const a = orbit.azimuth, e = orbit.elevation;
    camera.position.set(
      lookat.x - distance * Math.cos(e) * Math.cos(a), lookat.y - distance * Math.cos(e) * Math.sin(a), lookat.z - distance * Math.sin(e),
    );
    camera.lookAt(lookat);
    camera.near = distance / 100;
    camera.far = distance * 40;
    camera.updateProjectionMatrix();
    world.fog.near = distance * 2.5;
    world.fog.far = distance * 9;
    const reach = distance * 0.9, shadow = sun.shadow.camera;
    sun.target.position.copy(lookat);
    sun.position.set(lookat.x + 0.6 * reach, lookat.y - 0.45 * reach, lookat.z + 2 * reach);
    Object.assign(shadow, { left: -reach, right: reach, top: reach, bottom: -reach, near: 0.1 * reach, far: 4 * reach });
    shadow.updateProjectionMatrix();
    sun.shadow.normalBias = 0.002 * reach;
  }

  const touches = new Map();
  const right = new THREE.Vector3(), upward = new THREE.Vector3();
  function move(dx, dy) {
    const metres = 2 * camera.position.distanceTo(lookat) * Math.tan((scene.fovy * Math.PI) / 360) / canvas.clientHeight;
    right.setFromMatrixColumn(camera.matrix, 0);
    upward.setFromMatrixColumn(camera.matrix, 1);
    pan.addScaledVector(right, -dx * metres).addScaledVector(upward, dy * metres);
    changed = true;
  }

  function turn(dx, dy) {
    orbit.azimuth -= 0.006 * dx;
    orbit.elevation = clamp(orbit.elevation - 0.006 * dy, -1.57, -0.02);
    changed = true;
  }

  function zoom(factor) {
    orbit.distance = clamp(orbit.distance * factor, 0.3 * scene.robot_radius, 8 * scene.far);
    changed = true;
  }

  canvas.addEventListener("pointerdown", (event) => {
    touches.set(event.pointerId, { x: event.clientX, y: event.clientY, moves: event.button === 2 || event.shiftKey });
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    const touch = touches.get(event.pointerId);
    if (!touch) return;
    const dx = event.clientX - touch.x, dy = event.clientY - touch.y;
    if (touches.size === 1) {
      (touch.moves ? move : turn)(dx, dy);
    } else if (touches.size === 2) {
      const other = [...touches.entries()].find(([id]) => id !== event.pointerId)[1];
      const before = Math.hypot(touch.x - other.x, touch.y - other.y);
      const after = Math.hypot(event.clientX - other.x, event.clientY - other.y);
      zoom(before / Math.max(after, 1));
      move(dx / 2, dy / 2);
    }
    [touch.x, touch.y] = [event.clientX, event.clientY];
  });
  for (const name of ["pointerup", "pointercancel"]) {
    canvas.addEventListener(name, (event) => touches.delete(event.pointerId));
  }
  canvas.addEventListener("contextmenu", (event) => event.preventDefault());
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoom(Math.exp(0.0012 * event.deltaY * (event.deltaMode === 1 ? 18 : 1)));
  }, { passive: false });

  // ---- Playing ------------------------------------------------------------------------------------------------------------
  const player = { number: 0, episode: scene.episodes[0], time: 0, playing: false };
  let changed = true;

  function setPlaying(playing) {
    if (playing && player.time >= player.episode.frames - 1) player.time = 0;
    player.playing = playing;
    element("play").classList.toggle("playing", playing);
    element("play").setAttribute("aria-label", playing ? "Pause" : "Play");
    changed = true;
  }

  function seek(time) {
    player.time = clamp(time, 0, player.episode.frames - 1);
    changed = true;
  }

  function chooseEpisode(number) {
    player.number = clamp(number, 0, scene.episodes.length - 1);
    player.episode = scene.episodes[player.number];
    const { frames, success, outcome } = player.episode;
    element("episode").value = String(player.number);
    element("scrub").max = String(frames - 1);
    element("outcome").textContent = `Episode ${player.number + 1}: ${outcome}`;
    const green = [];
    for (let i = 0; i < frames; i++) {
      if (success[i] !== "1") continue;
      const start = i;
      while (i < frames && success[i] === "1") i++;
      const [from, to] = [start, i].map((at) => ((100 * at) / frames).toFixed(2));
      green.push(`transparent ${from}%, var(--reached) ${from}%, var(--reached) ${to}%, transparent ${to}%`);
    }
    element("successes").style.backgroundImage = green.length ? `linear-gradient(90deg, ${green.join(", ")})` : "none";
    layTrail(player.episode);
    seek(0);
    homeView();
  }

  function show() {
    changed = false;
    const { episode, time } = player;
    bodies.forEach((body, index) => pose(episode, time, index, body.position, body.quaternion));
    const frame = Math.floor(time);
    const reached = episode.success[frame] === "1";
    goal.visible = episode.goals.length > 0;
    if (goal.visible) goal.position.set(...episode.goals[Math.min(frame, episode.goals.length - 1)]);
    placeGhost(episode, frame);
    layTendons(episode, time);
    for (const site of sites) site.visible = element("sites").checked;
    for (const material of goalMaterials) material.color = colour(reached ? "--reached" : "--waiting");
    trail.visible = element("trail").checked && scene.robot_moves;
    trailGeometry.setDrawRange(0, 6 * frame);
    element("status").textContent = reached ? "at the goal" : "on its way";
    element("status").classList.toggle("reached", reached);
    element("scrub").value = String(frame);
    const seconds = (at) => (at * scene.step).toFixed(1);
    element("clock").textContent = `${seconds(time)} / ${seconds(episode.frames - 1)} s`;
    Object.assign(document.body.dataset, { frame, episode: player.number, playing: player.playing, reached });
    placeCamera();
    renderer.render(world, camera);
  }

  let last = null;
  function tick(now) {
    const passed = last === null ? 0 : Math.min((now - last) / 1000, 0.25);
    last = now;
    if (player.playing) {
      seek(player.time + (passed * Number(element("speed").value)) / scene.step);
      if (player.time >= player.episode.frames - 1) setPlaying(false);
    }
    if (changed) show();
    requestAnimationFrame(tick);
  }

  scene.episodes.forEach((episode, index) => {
    const mark = episode.success.includes("1") ? "✓" : "–";
    element("episode").add(new Option(`${index + 1} ${mark}`, String(index)));
  });
  element("play").addEventListener("click", () => setPlaying(!player.playing));
  element("scrub").addEventListener("input", (event) => {
    setPlaying(false);
    seek(Number(event.target.value));
  });
  element("episode").addEventListener("change", (event) => {
    chooseEpisode(Number(event.target.value));
    setPlaying(true);
  });
  if (!scene.robot_moves) { // there is nobody to follow
    for (const id of ["follow", "trail"]) element(id).parentElement.style.display = "none";
  }
  if (!sites.length) element("sites").parentElement.style.display = "none";
  element("home").addEventListener("click", homeView);
  for (const id of ["follow", "trail", "sites"]) element(id).addEventListener("change", () => { changed = true; });
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.tagName === "SELECT") return;
    const step = event.shiftKey ? Math.round(1 / scene.step) : 1;
    const actions = {
      " ": () => setPlaying(!player.playing),
      ArrowRight: () => { setPlaying(false); seek(Math.floor(player.time) + step); },
      ArrowLeft: () => { setPlaying(false); seek(Math.ceil(player.time) - step); },
      ArrowDown: () => chooseEpisode(player.number + 1),
      ArrowUp: () => chooseEpisode(player.number - 1),
      f: () => scene.robot_moves && element("follow").click(),
      r: homeView,
    };
    const action = actions[event.key.length === 1 ? event.key.toLowerCase() : event.key];
    if (!action) return;
    event.preventDefault(); // or space would press the focused button as well
    action();
  });
  addEventListener("keyup", (event) => { if (event.key === " " && event.target.tagName === "BUTTON") event.preventDefault(); });
  new ResizeObserver(() => {
    const { clientWidth, clientHeight } = canvas;
    renderer.setPixelRatio(Math.min(devicePixelRatio, 2));
    renderer.setSize(clientWidth, clientHeight, false);
    camera.aspect = clientWidth / Math.max(clientHeight, 1);
    show(); // at once: a canvas that changes its size is blank
  }).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", applyTheme);

  applyTheme();
  chooseEpisode(0);
  setPlaying(!matchMedia("(prefers-reduced-motion: reduce)").matches);
  requestAnimationFrame(tick);
})();
