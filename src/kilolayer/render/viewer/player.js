// Plays the episodes of the scene in the page's JSON.
"use strict";
(() => {
  const scene = JSON.parse(element("scene").textContent);
  for (const episode of scene.episodes) {
    episode.poses = new Int16Array(bytes(episode.poses));
    episode.tendons = new Int16Array(bytes(episode.tendons));
  }
  const canvas = element("view");
  const world = openWorld(scene, canvas, Math.max(...scene.episodes.map((episode) => episode.frames)));
  if (world === null) return;

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

  function readPoint(episode, frame, end, point) {
    const at = 3 * (2 * frame * scene.tendons.length + end), p = episode.tendons;
    point.set(...[0, 1, 2].map((axis) => scene.origin[axis] + scene.scale * p[at + axis]));
  }

  function trailOf(episode) {
    return Array.from({ length: episode.frames }, (_, frame) => {
      readPose(episode, frame, scene.root, first, firstTurn);
      return first.clone();
    });
  }

  function followed() { // as a mean over a second or so: without the shake of a gait
    const mean = new THREE.Vector3(), position = new THREE.Vector3(), reach = 0.6 / scene.step, count = 9;
    for (let i = 0; i < count; i++) {
      const time = clamp(player.time + reach * (i / (count - 1) - 0.5) * 2, 0, player.episode.frames - 1);
      pose(player.episode, time, scene.root, position, firstTurn.clone());
      mean.addScaledVector(position, 1 / count);
    }
    mean.z += scene.middle;
    return mean;
  }

  function homeView() {
    world.home(player.episode.camera);
    element("follow").checked = player.episode.camera.follow;
  }

  // ---- Playing ------------------------------------------------------------------------------------------------------------
  const player = { number: 0, episode: scene.episodes[0], time: 0, playing: false };

  function setPlaying(playing) {
    if (playing && player.time >= player.episode.frames - 1) player.time = 0;
    player.playing = playing;
    element("play").classList.toggle("playing", playing);
    element("play").setAttribute("aria-label", playing ? "Pause" : "Play");
    world.changed = true;
  }

  function seek(time) {
    player.time = clamp(time, 0, player.episode.frames - 1);
    world.changed = true;
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
    world.layTrail(trailOf(player.episode));
    seek(0);
    homeView();
  }

  function show() {
    world.changed = false;
    const { episode, time } = player;
    world.bodies.forEach((body, index) => pose(episode, time, index, body.position, body.quaternion));
    const frame = Math.floor(time), next = Math.min(frame + 1, episode.frames - 1);
    const reached = episode.success[frame] === "1";
    world.placeGoal(episode.goals.length ? episode.goals[Math.min(frame, episode.goals.length - 1)] : null);
    world.placeGhost(episode.ghost[Math.min(frame, episode.ghost.length - 1)] ?? []);
    world.layTendons((end, point) => {
      readPoint(episode, frame, end, point);
      readPoint(episode, next, end, second);
      point.lerp(second, time - frame);
    });
    for (const site of world.sites) site.visible = element("sites").checked;
    world.paintGoal(reached ? "--reached" : "--waiting");
    world.showTrail(element("trail").checked && scene.robot_moves ? frame + 1 : 0);
    element("status").textContent = reached ? "at the goal" : "on its way";
    element("status").classList.toggle("reached", reached);
    element("scrub").value = String(frame);
    const seconds = (at) => (at * scene.step).toFixed(1);
    element("clock").textContent = `${seconds(time)} / ${seconds(episode.frames - 1)} s`;
    Object.assign(document.body.dataset, { frame, episode: player.number, playing: player.playing, reached });
    world.draw(element("follow").checked ? followed() : null);
  }

  let last = null;
  function tick(now) {
    const passed = last === null ? 0 : Math.min((now - last) / 1000, 0.25);
    last = now;
    if (player.playing) {
      seek(player.time + (passed * Number(element("speed").value)) / scene.step);
      if (player.time >= player.episode.frames - 1) setPlaying(false);
    }
    if (world.changed) show();
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
  if (!world.sites.length) element("sites").parentElement.style.display = "none";
  element("home").addEventListener("click", homeView);
  for (const id of ["follow", "trail", "sites"]) element(id).addEventListener("change", () => { world.changed = true; });
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

  world.resized = show;
  chooseEpisode(0);
  setPlaying(!matchMedia("(prefers-reduced-motion: reduce)").matches);
  requestAnimationFrame(tick);
})();
