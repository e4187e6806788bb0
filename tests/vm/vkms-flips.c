// SPDX-License-Identifier: GPL-2.0
// Displays that need not refresh at a fixed rate, for tests: what vkms lacks. Built into the rig's vkms, whose devices are
// registered through here (see rig-customize). Nothing changes unless the parameter is set before a device is made.
//
// With it, an async flip is over at once, and a display with VRR_ENABLED refreshes when a frame comes: not sooner than a refresh of
// its mode after the one before, and not later than IDLE_REFRESHES of them, as a panel does that has to be refreshed.

#include <linux/hrtimer.h>
#include <linux/module.h>

#include <drm/drm_atomic.h>
#include <drm/drm_connector.h>
#include <drm/drm_crtc.h>
#include <drm/drm_drv.h>
#include <drm/drm_modeset_helper_vtables.h>
#include <drm/drm_vblank.h>

#include "vkms_drv.h"

#undef drm_dev_register

#define IDLE_REFRESHES 4

static bool flips;
module_param(flips, bool, 0644);
MODULE_PARM_DESC(flips, "Devices made from now on have async flips and variable refresh");

static const struct drm_crtc_helper_funcs *fixed_funcs;
static struct drm_crtc_helper_funcs flips_funcs;

// The timer's next vblank. The one before it is taken to have been an interval earlier (drm_crtc_vblank_get_vblank_timeout).
static void set_interval(struct drm_vblank_crtc_timer *timer, ktime_t interval)
{
	unsigned long flags;

	spin_lock_irqsave(&timer->interval_lock, flags);
	timer->interval = interval;
	spin_unlock_irqrestore(&timer->interval_lock, flags);
}

static bool flips_handle_vblank_timeout(struct drm_crtc *crtc)
{
	struct vkms_output *output = drm_crtc_to_vkms_output(crtc);
	struct drm_vblank_crtc *vblank = drm_crtc_vblank_crtc(crtc);
	ktime_t idle = ns_to_ktime(vblank->framedur_ns), last;
	bool ret = fixed_funcs->handle_vblank_timeout(crtc);

	spin_lock(&output->lock);
	if (output->composer_state && output->composer_state->base.vrr_enabled)
		idle *= IDLE_REFRESHES;
	spin_unlock(&output->lock);
	drm_crtc_vblank_count_and_time(crtc, &last);
	// Switched off meanwhile, it has no new time, and a timer of the past would never let go of the processor.
	if (!READ_ONCE(vblank->enabled) || ktime_before(ktime_add(last, idle), ktime_get()))
		return ret;
	set_interval(&vblank->vblank_timer, idle);
	hrtimer_set_expires(&vblank->vblank_timer.timer, ktime_add(last, idle));
	return ret;
}

static void flips_atomic_flush(struct drm_crtc *crtc, struct drm_atomic_commit *state)
{
	struct drm_vblank_crtc *vblank = drm_crtc_vblank_crtc(crtc);
	struct drm_vblank_crtc_timer *timer = &vblank->vblank_timer;
	struct drm_pending_vblank_event *event = crtc->state->event;
	ktime_t refresh = ns_to_ktime(vblank->framedur_ns), last, due;
	bool is_async = crtc->state->async_flip;

	if (event && is_async) {
		// vkms has taken its lock, and interrupts are off.
		spin_lock(&crtc->dev->event_lock);
		drm_crtc_send_vblank_event(crtc, event);
		spin_unlock(&crtc->dev->event_lock);
		crtc->state->event = NULL;
	}
	fixed_funcs->atomic_flush(crtc, state);
	if (!event || is_async || !timer->crtc || !READ_ONCE(vblank->enabled))
		return;
	if (!crtc->state->vrr_enabled && timer->interval == refresh)
		return;
	drm_crtc_vblank_count_and_time(crtc, &last);
	due = ktime_add(last, refresh);
	if (ktime_before(due, ktime_get()))
		due = ktime_get();
	set_interval(timer, ktime_sub(due, last));
	hrtimer_start(&timer->timer, due, HRTIMER_MODE_ABS);
}

int flips_dev_register(struct drm_device *dev, unsigned long flags)
{
	struct drm_connector_list_iter connectors;
	struct drm_connector *connector;
	struct drm_crtc *crtc;

	if (!flips)
		return drm_dev_register(dev, flags);
	dev->mode_config.async_page_flip = true;
	drm_for_each_crtc(crtc, dev) {
		if (!fixed_funcs) {
			fixed_funcs = crtc->helper_private;
			flips_funcs = *fixed_funcs;
			flips_funcs.atomic_flush = flips_atomic_flush;
			flips_funcs.handle_vblank_timeout = flips_handle_vblank_timeout;
		}
		crtc->helper_private = &flips_funcs;
	}
	drm_connector_list_iter_begin(dev, &connectors);
	drm_for_each_connector_iter(connector, &connectors) {
		if (connector->connector_type == DRM_MODE_CONNECTOR_WRITEBACK)
			continue;
		if (!drm_connector_attach_vrr_capable_property(connector))
			drm_connector_set_vrr_capable_property(connector, true);
	}
	drm_connector_list_iter_end(&connectors);
	return drm_dev_register(dev, flags);
}
