-- Health of Airdock's kinds for Argo CD. Without it, Argo CD calls them healthy as soon as they are applied.
local hs = {status = "Progressing", message = "waiting for the operator"}
local status = obj.status
if status == nil or status.conditions == nil then
  return hs
end
-- What is said of an older spec says nothing of this one.
if status.observedGeneration ~= nil and status.observedGeneration ~= obj.metadata.generation then
  return hs
end
local found = {}
for _, condition in ipairs(status.conditions) do
  found[condition.type] = condition
end
local ready = found["Ready"]
if ready ~= nil then
  hs.message = ready.message
end
if obj.spec ~= nil and obj.spec.suspend == true then
  hs.status = "Suspended"
elseif found["Stalled"] ~= nil and found["Stalled"].status == "True" then
  hs.status = "Degraded"
  hs.message = found["Stalled"].message
elseif ready ~= nil and ready.status == "True" then
  hs.status = "Healthy"
elseif found["Reconciling"] ~= nil and found["Reconciling"].status == "True" then
  hs.status = "Progressing"
elseif ready ~= nil and ready.status == "False" then
  hs.status = "Degraded"
end
return hs
