// Draws a scene: bodies, tendons, goal, ghost and trail on a floor, seen by a camera that turns, moves and zooms.
// Lengths are metres, z points up, quaternions come as w, x, y, z. A page says where everything is; see player.js.
"use strict";

const element = (id) => document.getElementById(id);
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
const bytes = (text) => Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)).buffer;
const themeColour = (name) => new THREE.Color(getComputedStyle(document.documentElement).getPropertyValue(name).trim());

/** Returns what draws a scene on a canvas; null, after saying so, if the browser cannot draw in 3-D.
 *  `longest` is how many points a trail has at most. Set `changed` to have the page draw again. */
function openWorld(scene, canvas, longest) {
  let renderer;
  try {
    renderer = new THREE.WebGLRenderer({ canvas, antialias: true });
  } catch (error) {
    element("failure").textContent = "This browser cannot draw in 3-D: WebGL is switched off or missing.";
    element("failure").hidden = false;
    return null;
  }
  renderer.shadowMap.enabled = true;
  renderer.shadowMap.type = THREE.PCFShadowMap;
  const stage = new THREE.Scene();
  const camera = new THREE.PerspectiveCamera(scene.fovy, 1, 0.05, 1000);
  camera.up.set(0, 0, 1);
  const sky = new THREE.HemisphereLight(0xffffff, 0x9aa0a8, 1.7);
  sky.position.set(0, 0, 1);
  const sun = new THREE.DirectionalLight(0xffffff, 2.1);
  sun.castShadow = true;
  sun.shadow.mapSize.set(2048, 2048);
  stage.add(sky, sun, sun.target);

  function along(z) { // three's cylinders and capsules stand along y, MuJoCo's along z
    return z.rotateX(Math.PI / 2);
  }

  function meshGeometry({ vertices, faces }) {
    const geometry = new THREE.BufferGeometry();
    geometry.setAttribute("position", new THREE.BufferAttribute(new Float32Array(bytes(vertices)), 3));
    geometry.setIndex(new THREE.BufferAttribute(new Uint32Array(bytes(faces)), 1));
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
    (geom.body < 0 ? stage : parents[geom.body]).add(mesh);
    return mesh;
  }

  const bodies = Array.from({ length: scene.bodies }, () => new THREE.Group());
  if (bodies.length) stage.add(...bodies);
  for (const geom of scene.geoms) {
    const mesh = place(geom, paint(geom.rgba), bodies);
    mesh.castShadow = geom.rgba[3] === 1;
    mesh.receiveShadow = true;
  }
  const sites = scene.sites.map((site) => place(site, paint(site.rgba), bodies));

  // Tendons: each straight piece is a thin cylinder from one end to the other.
  const rod = new THREE.CylinderGeometry(1, 1, 1, 12), upright = new THREE.Vector3(0, 1, 0);
  const pieces = scene.tendons.map(({ rgba }) => new THREE.Mesh(rod, paint(rgba)));
  if (pieces.length) stage.add(...pieces);

  /** Lays the tendons; `read(end, point)` sets a point to an end of a piece, the ends of piece i being 2 i and 2 i + 1. */
  function layTendons(read) {
    const [start, end] = [new THREE.Vector3(), new THREE.Vector3()];
    pieces.forEach((piece, number) => {
      read(2 * number, start);
      read(2 * number + 1, end);
      const length = start.distanceTo(end), width = scene.tendons[number].width;
      piece.visible = length > 1e-6;
      piece.position.copy(start).lerp(end, 0.5);
      piece.scale.set(width, Math.max(length, 1e-6), width);
      piece.quaternion.setFromUnitVectors(upright, end.sub(start).normalize());
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
  stage.add(floor);

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
  stage.add(goal);

  // The ghost: the robot as the goal has it.
  const ghostMaterial = new THREE.MeshBasicMaterial({ transparent: true, opacity: 0.35, depthWrite: false });
  goalMaterials.push(ghostMaterial);
  const ghosts = [];
  for (const geom of scene.ghost) {
    ghosts[geom.body] ??= new THREE.Group();
    place(geom, ghostMaterial, ghosts);
  }
  ghosts.forEach((ghost) => stage.add(ghost));

  /** Places the ghost's bodies; null for one that the goal does not have. */
  function placeGhost(poses) {
    ghosts.forEach((ghost, number) => {
      const pose = poses[number];
      ghost.visible = Boolean(pose);
      if (!pose) return;
      const [x, y, z, w, i, j, k] = pose;
      ghost.position.set(x, y, z);
      ghost.quaternion.set(i, j, k, w).normalize();
    });
  }

  /** Places the mark of the goal; null hides it. */
  function placeGoal(position) {
    goal.visible = position !== null;
    if (position !== null) goal.position.set(...position);
  }

  /** Paints mark and ghost in a colour of the style sheet. */
  function paintGoal(name) {
    for (const material of goalMaterials) material.color = themeColour(name);
  }

  // The trail: where the robot's base has been, as a ribbon just above the ground.
  const trailGeometry = new THREE.BufferGeometry();
  trailGeometry.setAttribute("position", new THREE.BufferAttribute(new Float32Array(6 * longest), 3));
  const corners = [];
  for (let i = 0; i + 1 < longest; i++) corners.push(2 * i, 2 * i + 1, 2 * i + 2, 2 * i + 1, 2 * i + 3, 2 * i + 2);
  trailGeometry.setIndex(corners);
  const trailMaterial = new THREE.MeshBasicMaterial({ side: THREE.DoubleSide, transparent: true, opacity: 0.75 });
  const trail = new THREE.Mesh(trailGeometry, trailMaterial);
  trail.frustumCulled = false;
  stage.add(trail);

  function layTrail(points) {
    const half = 0.05 * scene.robot_radius, places = trailGeometry.getAttribute("position");
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

  /** Shows the first points of the trail; none for 0. */
  function showTrail(count) {
    trail.visible = count > 1;
    trailGeometry.setDrawRange(0, 6 * Math.max(count - 1, 0));
  }

  function applyTheme() {
    const ground = themeColour("--ground"), dark = matchMedia("(prefers-color-scheme: dark)").matches;
    stage.background = ground;
    stage.fog = new THREE.Fog(ground, 1, 10);
    const pen = tiles.getContext("2d");
    const [even, odd] = dark ? ["#2a2f37", "#22262d"] : ["#d9dee5", "#cbd2da"];
    for (const [i, j] of [[0, 0], [0, 1], [1, 0], [1, 1]]) {
      pen.fillStyle = i === j ? even : odd;
      pen.fillRect(128 * i, 128 * j, 128, 128);
    }
    floorTexture.needsUpdate = true;
    sky.intensity = dark ? 1.2 : 1.7;
    trailMaterial.color = themeColour("--blue");
    world.changed = true;
  }

  // ---- Camera: drag turns, right drag or two fingers move, wheel or pinch goes nearer ---------------------------------------
  const orbit = {};
  const centre = new THREE.Vector3(), lookat = new THREE.Vector3(), pan = new THREE.Vector3();

  /** Goes back to a view: its azimuth, elevation and distance, and the point that it looks at. */
  function home(view) {
    Object.assign(orbit, { azimuth: view.azimuth, elevation: view.elevation, distance: view.distance });
    centre.set(...view.lookat);
    pan.set(0, 0, 0);
    world.changed = true;
  }

  /** Draws everything; the camera goes along with a point, or stays where it is for null. */
  function draw(followed) {
    if (followed !== null) centre.copy(followed);
    lookat.copy(centre).add(pan);
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
    stage.fog.near = distance * 2.5;
    stage.fog.far = distance * 9;
    const reach = distance * 0.9, shadow = sun.shadow.camera;
    sun.target.position.copy(lookat);
    sun.position.set(lookat.x + 0.6 * reach, lookat.y - 0.45 * reach, lookat.z + 2 * reach);
    Object.assign(shadow, { left: -reach, right: reach, top: reach, bottom: -reach, near: 0.1 * reach, far: 4 * reach });
    shadow.updateProjectionMatrix();
    sun.shadow.normalBias = 0.002 * reach;
    renderer.render(stage, camera);
  }

  /** Returns the direction from the camera to what is seen at a place of the window. */
  function direction(x, y) {
    const box = canvas.getBoundingClientRect();
    const seen = new THREE.Vector3((2 * (x - box.left)) / box.width - 1, 1 - (2 * (y - box.top)) / box.height, 0.5);
    return seen.unproject(camera).sub(camera.position).normalize();
  }

  /** Returns where in the window a point is seen, in pixels. */
  function seenAt(point) {
    const box = canvas.getBoundingClientRect(), seen = point.clone().project(camera);
    return { x: box.left + (0.5 + 0.5 * seen.x) * box.width, y: box.top + (0.5 - 0.5 * seen.y) * box.height };
  }

  const touches = new Map();
  const right = new THREE.Vector3(), upward = new THREE.Vector3();
  function move(dx, dy) {
    const metres = 2 * camera.position.distanceTo(lookat) * Math.tan((scene.fovy * Math.PI) / 360) / canvas.clientHeight;
    right.setFromMatrixColumn(camera.matrix, 0);
    upward.setFromMatrixColumn(camera.matrix, 1);
    pan.addScaledVector(right, -dx * metres).addScaledVector(upward, dy * metres);
    world.changed = true;
  }

  function turn(dx, dy) {
    orbit.azimuth -= 0.006 * dx;
    orbit.elevation = clamp(orbit.elevation - 0.006 * dy, -1.57, -0.02);
    world.changed = true;
  }

  function zoom(factor) {
    orbit.distance = clamp(orbit.distance * factor, 0.3 * scene.robot_radius, 8 * scene.far);
    world.changed = true;
  }

  canvas.addEventListener("pointerdown", (event) => {
    const held = touches.size === 0 && event.button === 0 ? world.grab(event) : null;
    const moves = event.button === 2 || event.shiftKey;
    touches.set(event.pointerId, { x: event.clientX, y: event.clientY, moves, held });
    canvas.setPointerCapture(event.pointerId);
  });
  canvas.addEventListener("pointermove", (event) => {
    const touch = touches.get(event.pointerId);
    if (!touch) return;
    const dx = event.clientX - touch.x, dy = event.clientY - touch.y;
    if (touch.held) {
      touch.held(event);
    } else if (touches.size === 1) {
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

  new ResizeObserver(() => {
    const { clientWidth, clientHeight } = canvas;
    renderer.setPixelRatio(Math.min(devicePixelRatio, 2));
    renderer.setSize(clientWidth, clientHeight, false);
    camera.aspect = clientWidth / Math.max(clientHeight, 1);
    world.resized(); // at once: a canvas that changes its size is blank
  }).observe(canvas);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", applyTheme);

  const world = {
    /** The page has to draw again. */
    changed: true,
    /** Called when the canvas has another size. */
    resized: () => {},
    /** Called when the main button goes down: returns what is called with each move of the pointer, or null. */
    grab: () => null,
    stage, bodies, sites, camera, goal,
    direction, draw, home, layTendons, layTrail, paintGoal, placeGhost, placeGoal, seenAt, showTrail,
  };
  applyTheme();
  return world;
}
