-- Which commands make sense now. They are given by annotation, so one that does not would be obeyed later, by surprise.

-- A retry answers these too, but as a person's word about jobs of the cloud that has to be looked at first: too much for
-- a click.
local WANTS_A_LOOK = {Ambiguous = true, ForeignOwner = true}

local status = obj.status or {}
local stalled = nil
for _, condition in ipairs(status.conditions or {}) do
  if condition.type == "Stalled" and condition.status == "True" then
    stalled = condition.reason
  end
end

local phase = status.phase
local given_up = phase == "Failed" or phase == "Aborted"
local over = given_up or phase == "Completed"
-- A policy stands on after its rollout is complete, and abort ends it.
local stands = false
for _, stage in ipairs(status.stages or {}) do
  stands = stands or (phase == "Completed" and stage.kind == "Dynamic")
end
local paused = status.paused == true or obj.spec.suspend == true

return {
  pause = {disabled = over or paused, displayName = "Pause", iconClass = "fa fa-fw fa-pause"},
  -- spec.suspend is Git's, and only a commit takes it back.
  resume = {
    disabled = not (status.paused == true or stalled == "ExternalChange"),
    displayName = "Resume",
    iconClass = "fa fa-fw fa-play",
  },
  abort = {disabled = over and not stands, displayName = "Abort", iconClass = "fa fa-fw fa-times-circle"},
  retry = {
    disabled = not (given_up or stalled ~= nil) or WANTS_A_LOOK[stalled] == true,
    displayName = "Retry",
    iconClass = "fa fa-fw fa-redo",
  },
}
